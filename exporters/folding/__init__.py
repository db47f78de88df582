"""Fold BatchNorm into the layer before it, by the module's data flow."""

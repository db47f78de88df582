"""Networks by name, and from a checkpoint."""

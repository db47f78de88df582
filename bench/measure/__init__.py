"""Contenders against each other: who, on which images, in which rounds."""

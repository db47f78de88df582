"""Bundles on other machines: by OpenSSH, or as tasks of a Ray cluster."""

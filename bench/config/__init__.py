"""What a user may ask for: sections, YAML files, how a backend is written."""

"""What a worker measures and reports, in the standard library alone."""

"""Load images, run backends, time them, and store what came of it; the command line."""

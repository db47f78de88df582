"""Files for one machine alone: their marks, and the custom operators that they need."""

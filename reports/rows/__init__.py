"""Statistics as rows of data, without words."""

"""Statistics of a run as rows of plain data: unrounded, without words or layout."""

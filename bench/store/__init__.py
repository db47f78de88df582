"""What lies on disk: whole files, run directories, finding a run, studies of a search."""

"""The text of the commands that are no report of a run: diff, errors, history and others."""

"""Sections of a report: words and tables."""

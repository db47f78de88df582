"""One document, several formats: terminal, Markdown, CSV, JSON."""

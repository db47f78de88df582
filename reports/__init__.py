"""From stored records to text: tables for the terminal, Markdown and JSON."""

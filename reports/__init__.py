"""From stored records to text: reports for the terminal and as Markdown, HTML, JSON and CSV."""

"""A report as a fragment of HTML, for the output of a notebook's cell."""

from collections.abc import Iterator

from markupsafe import Markup, escape

from foldbench.reports.text.document import Document, ReportSection, Table
from foldbench.reports.text.escaping import visible


def render_notebook(document: Document) -> str:
    """Return the answer and the tables of a report; details and commands are for pages."""
    parts = [Markup("<h3>{}</h3>").format(_text(document.title))]
    parts += (Markup("<p>{}</p>").format(_text(sentence)) for sentence in document.answer)
    for section in document.sections:
        if not section.detail:
            parts += _section(section)
    return str(Markup("<div>{}</div>").format(Markup("\n").join(parts)))


def _section(section: ReportSection) -> Iterator[Markup]:
    if section.table is None and not section.notes:
        return
    yield Markup("<h4>{}</h4>").format(_text(section.title))
    if section.table is not None:
        yield _table(section.table)
    if section.caption:
        yield Markup("<p><small>{}</small></p>").format(_text(section.caption))
    if section.notes:
        items = (Markup("<li>{}</li>").format(_text(note)) for note in section.notes)
        yield Markup("<ol>{}</ol>").format(Markup("").join(items))


def _table(table: Table) -> Markup:
    aligned = [
        Markup('<{} style="text-align: ' + column.align + '">{}</{}>') for column in table.columns
    ]

    def line(cells: tuple[str, ...], tag: str) -> Markup:
        filled = (a.format(tag, _text(c), tag) for a, c in zip(aligned, cells, strict=True))
        return Markup("<tr>{}</tr>").format(Markup("").join(filled))

    head = line(tuple(column.heading for column in table.columns), "th")
    rows = Markup("\n").join(line(row, "td") for row in table.rows)
    return Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(head, rows)


def _text(text: str) -> Markup:
    return escape(visible(text))

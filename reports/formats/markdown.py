"""A report as a GitHub Markdown page: everything, details included."""

from tabulate import tabulate

from foldbench.reports.text.document import Document, ReportSection, Table
from foldbench.reports.text.escaping import fence, markdown, visible


def render_markdown(document: Document) -> str:
    """Return the whole report; foreign text in it is shown, never interpreted."""
    first, *more = [markdown(text) for text in document.answer] or [""]
    answer = [f"**{first}**", *more] if first else []
    parts = [f"# {markdown(document.title)}", *answer, *map(_section, document.sections)]
    return "\n\n".join(parts) + "\n"


def _section(section: ReportSection) -> str:
    blocks = [f"## {markdown(section.title)}"]
    if section.lead:
        blocks.append(markdown(section.lead))
    if section.table:
        blocks.append(_table(section.table))
    if section.caption:
        blocks.append(markdown(section.caption))
    if section.pairs:
        blocks.append(
            "\n".join(f"- **{markdown(head)}**: {markdown(text)}" for head, text in section.pairs)
        )
    if section.notes:
        blocks.append(
            "\n".join(f"{n}. {markdown(text)}" for n, text in enumerate(section.notes, start=1))
        )
    if section.commands:
        code = "\n".join(visible(command) for command in section.commands)
        blocks.append(f"{fence(code)}console\n{code}\n{fence(code)}")
    return "\n\n".join(blocks)


def _table(table: Table) -> str:
    return tabulate(
        [[markdown(cell) for cell in row] for row in table.rows],
        headers=[markdown(column.heading) for column in table.columns],
        tablefmt="pipe",
        colalign=[column.align for column in table.columns],
        disable_numparse=True,
    )

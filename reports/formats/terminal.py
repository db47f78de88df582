"""A report for the terminal: tables and text within 100 columns, colour only where asked for."""

import re
import textwrap
from collections.abc import Sequence

from tabulate import SEPARATING_LINE, tabulate

from foldbench.reports.text.document import Document, ReportSection, Table
from foldbench.reports.text.escaping import visible

WIDTH = 100
_GAP = 2
_NARROWEST = 6
_PIECE = re.compile(r"[^\s/_.,-]*[\s/_.,-]*")


_BOLD = "1"
_COLOURS = {"faster": "32", "slower": "31", "failed": "31"}
"""SGR codes of cells that say just this."""


def render_terminal(document: Document, colour: bool = False) -> str:
    """Return the report without its details; only commands may be longer than WIDTH.

    There is no escape sequence in it unless `colour`.
    """
    first, *more = [_wrap(text) for text in document.answer] or [""]
    answer = [styled(first, _BOLD, colour), *more] if first else []
    parts = [_wrap(document.title), *answer]
    parts += [
        render_section(section, colour) for section in document.sections if not section.detail
    ]
    return "\n\n".join(parts) + "\n"


def styled(text: str, code: str, colour: bool) -> str:
    """Return `text` in the style of an SGR code, if `colour` and there is any."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code and text else text


def render_section(section: ReportSection, colour: bool) -> str:
    """Return one section, without a newline at its end."""
    blocks = [styled(_wrap(section.title), _BOLD, colour)]
    if section.lead:
        blocks.append(_wrap(section.lead))
    if section.table:
        blocks.append(_table(section.table, colour))
    if section.caption:
        blocks.append(_wrap(section.caption))
    width = max((len(visible(heading)) for heading, _ in section.pairs), default=0)
    blocks += [_wrap(text, f"{visible(head):<{width}}  ") for head, text in section.pairs]
    digits = len(str(len(section.notes)))
    blocks += [_wrap(text, f"{n:>{digits}}  ") for n, text in enumerate(section.notes, start=1)]
    blocks += [visible(command) for command in section.commands]
    return "\n".join(blocks)


def _wrap(text: str, first: str = "") -> str:
    """Return `text` over several lines behind `first`, later lines indented by as much."""
    return textwrap.fill(
        visible(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    )


def _table(table: Table, colour: bool) -> str:
    headings = [visible(column.heading) for column in table.columns]
    rows = [[visible(cell) for cell in row] for row in table.rows]
    widths = _fit([headings, *rows], [column.align == "left" for column in table.columns])
    folded = [
        [_fold(cell, width) for cell, width in zip(row, widths, strict=True)]
        for row in (headings, *rows)
    ]
    if colour:
        folded = [[styled(c, _COLOURS.get(c, ""), c in _COLOURS) for c in row] for row in folded]
    return tabulate(
        [folded[0], SEPARATING_LINE, *folded[1:]],  # as `headers` they would be padded
        tablefmt="simple",
        colalign=[column.align for column in table.columns],
        disable_numparse=True,
    )


def _fit(rows: Sequence[Sequence[str]], wordy: Sequence[bool]) -> list[int]:
    """Return a width for each column such that all fit.

    Headings go over several lines first; then room is taken from the widest wordy columns.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(wordy))]
    unfolded = [
        max(len(text) for text in (*rows[0][i].split(), *(row[i] for row in rows[1:])))
        for i in range(len(wordy))
    ]
    excess = sum(widths) + _GAP * (len(widths) - 1) - WIDTH
    while excess > 0:
        candidates = [i for i, width in enumerate(widths) if width > unfolded[i]]
        candidates = candidates or [
            i for i, width in enumerate(widths) if width > _NARROWEST and wordy[i]
        ]
        candidates = candidates or [i for i, width in enumerate(widths) if width > 1]
        widest = max(candidates, key=lambda i: widths[i])
        widths[widest] -= 1
        excess -= 1
    return widths


def _fold(text: str, width: int) -> str:
    """Return `text` in lines of at most `width`, broken after a space or ``/ _ . , -``."""
    lines, line = [], ""
    for piece in _PIECE.findall(text):
        rest = piece
        if len(line) + len(piece.rstrip()) > width:
            if line:
                lines.append(line.rstrip())
            line = ""
            while len(rest.rstrip()) > width:
                lines.append(rest[:width])
                rest = rest[width:]
        line += rest
    return "\n".join([*lines, line.rstrip()])

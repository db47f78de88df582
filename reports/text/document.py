"""A report before it has a form: sections of tables, pairs and notes, all of them plain text.

Built once from runs by `reports.sections.compose`; each renderer gives it a form
and escapes every text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Column:
    """A heading and the side its cells keep to."""

    heading: str
    align: Literal["left", "right"] = "right"


@dataclass(frozen=True)
class Table:
    """Cells as text; a blank is an empty string."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ReportSection:
    """One titled part of a report; what it does not have is empty."""

    title: str
    table: Table | None = None
    caption: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    """Numbered from 1."""
    commands: tuple[str, ...] = ()
    detail: bool = False
    """Details are for pages, not for the terminal."""
    key: str = ""
    """What it is about, for a page that puts pictures beside it; empty where none belong there."""
    lead: str = ""
    """What it comes to, in one sentence: beside a picture, a page shows the rest on request."""


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    sections: tuple[ReportSection, ...]
    answer: tuple[str, ...] = ()
    """What was found, in sentences; the first is the one to remember."""


def left(heading: str) -> Column:
    """Return a column of words."""
    return Column(heading, "left")


def right(heading: str) -> Column:
    """Return a column of numbers."""
    return Column(heading, "right")


def tabulated(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table | None:
    """Return a table without its optional columns (heading in OPTIONAL) that are blank throughout.

    None when there are no rows.
    """
    if not rows:
        return None
    kept = [
        i
        for i, column in enumerate(columns)
        if column.heading not in OPTIONAL or any(row[i] for row in rows)
    ]
    return Table(
        tuple(columns[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows)
    )


OPTIONAL = frozenset(
    {
        "model",
        "run",
        "boundary",
        "machine",
        "accuracy %",
        "homework %",
        "difference",
        "p",
        "Pareto",
        "LoadGen",
        "passes",
        "notes",
        "homework loss",
        "ours − homework",
        "validation accuracy %",
    }
)
"""Headings of columns that say something only where a cell is filled."""

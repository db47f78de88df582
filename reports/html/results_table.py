"""The main table of a page: accuracy, agreement, latency and size of each contender in one row.

It joins what `reports.sections.compose` and `reports.sections.latency` show in three tables;
the numbers come from the same rows and are rounded by the same functions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from foldbench.bench import units
from foldbench.bench.records import Run
from foldbench.reports.figures.axes import Scale
from foldbench.reports.figures.speedups import glyph, ruler
from foldbench.reports.rows.accuracy import AccuracyRow, accuracy_rows
from foldbench.reports.rows.latency import LatencyRow, latency_rows
from foldbench.reports.rows.machines import machine_of, machines_of
from foldbench.reports.sections.notes import Notes
from foldbench.reports.text.document import Column, left, right
from foldbench.reports.text.labels import Labelled


@dataclass(frozen=True)
class Cell:
    """What a cell shows: a text, a smaller one under it, a picture, and what it is sorted by."""

    text: str
    detail: str = ""
    value: float | None = None
    """Unrounded; None sorts by the text, blanks last."""
    picture: Markup | str = ""


@dataclass(frozen=True)
class Results:
    """The whole table."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = (
        "Small figures are 95 % intervals, of homework % the difference in percentage points, of "
        "agreement all test images. Median and p95 are end-to-end (host to host), "
        "of clean rounds alone where there are any. Speed-up: times as fast as the baseline on "
        "the same device. What each figure is exactly is said with the tables below."
    )


def build_results(column: Column, labelled: Labelled, notes: Notes) -> Results:
    """Return a row for each contender and batch size, those that did not run included."""
    columns = (
        column,
        left("machine"),
        left("contender"),
        right("batch"),
        left("boundary"),
        right("accuracy %"),
        right("homework %"),
        right("agreement"),
        right("median ms"),
        right("p95 ms"),
        right("images/s"),
        right("speed-up"),
        left("verdict"),
        right("file size"),
        left("notes"),
    )
    rulers = ruler([row for _, run in labelled for row in latency_rows(run)], 2, 82)
    rows = [cells for label, run in labelled for cells in _rows(label, run, notes, rulers)]
    hidden = set()
    if len(labelled) == 1:
        hidden.add(0)
    if len(machines_of([run for _, run in labelled])) == 1:
        hidden.add(1)
    blank = {i for i in range(len(columns)) if not any(row[i].text for row in rows)}
    kept = [i for i in range(len(columns)) if i not in hidden | blank]
    return Results(
        tuple(columns[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows)
    )


def _rows(label: str, run: Run, notes: Notes, rulers: Scale) -> Iterator[tuple[Cell, ...]]:
    machine = machine_of(run)
    scored = {row.contender: row for row in accuracy_rows(run)}
    for row in latency_rows(run):
        yield (
            Cell(label),
            Cell(machine),
            Cell(row.contender),
            Cell(units.count(row.batch_size), value=row.batch_size),
            Cell(units.boundary(row.boundary)),
            *_accuracy(scored[row.contender]),
            *_latency(row, rulers),
            Cell(
                units.size(scored[row.contender].size_bytes),
                value=scored[row.contender].size_bytes,
            ),
            Cell(_marks(label, row, notes)),
        )


def _accuracy(row: AccuracyRow) -> tuple[Cell, ...]:
    share = row.accuracy
    same = row.agreement_top1_equal
    return (
        Cell(
            units.percent(share) if row.status == "ok" else row.status,
            units.span(units.percent(row.low), units.percent(row.high)),
            share,
        ),
        Cell(
            units.percent(row.homework_accuracy),
            units.points(row.homework_difference),
            row.homework_accuracy,
        ),
        Cell(
            units.count(same),
            f"of {units.count(row.agreement_images)}" if same is not None else "",
            same,
        ),
    )


def _latency(row: LatencyRow, rulers: Scale) -> tuple[Cell, ...]:
    ratio, span = units.estimate(row.speedup_ratio, row.speedup_low, row.speedup_high)
    return (
        Cell(
            units.milliseconds(row.median_s) if row.status == "ok" else row.status,
            value=row.median_s,
        ),
        Cell(units.milliseconds(row.p95_s), value=row.p95_s),
        Cell(units.rate(row.images_per_s), value=row.images_per_s),
        Cell(
            ratio or units.best_case_ratio(row.speedup_floor_ratio),
            span,
            row.speedup_ratio or row.speedup_floor_ratio,
            glyph(row, rulers),
        ),
        Cell(units.verdict(row.verdict, row.is_claimed)),
    )


def _marks(label: str, row: LatencyRow, notes: Notes) -> str:
    """Return the notes on any figure of the row."""
    return notes.of_row(label, row.contender, row.batch_size, row.boundary)

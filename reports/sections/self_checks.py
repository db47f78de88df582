"""The section about the self-checks: the A/A control and the single-thread control."""

from foldbench.bench import units
from foldbench.bench.records import Run
from foldbench.reports.rows.self_checks import SelfCheckRow, self_check_rows
from foldbench.reports.sections.notes import Notes
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in, labelled_rows


def build_self_checks(column: Column, labelled: Labelled, notes: Notes) -> ReportSection:
    """Return the section; `column` heads the names of the runs where there are several."""

    def cells(label: str, run: Run) -> list[list[str]]:
        return [
            [*_cells(row), notes.of(label, "latency", row.contender, row.batch_size, row.boundary)]
            for row in self_check_rows(run)
        ]

    columns = (
        column,
        left("check"),
        right("batch"),
        left("boundary"),
        right("ratio"),
        right("95 % interval"),
        right("min–max"),
        left("verdict"),
        left("notes"),
    )
    table = tabulated(columns, labelled_rows(labelled, cells))
    return ReportSection(
        "Self-checks",
        table=table,
        caption="Again: the A/A control, the reference's speed-up over itself, timed twice in "
        "every round; other speed-ups within its difference from 1 are noise. 1 thread: the "
        "single-thread control, how many times faster the reference is with all its threads. "
        "Min–max: over clean rounds; a wide one shows that the machine changed."
        if table
        else "",
        pairs=_failures(labelled),
        key="self-checks",
    )


def _failures(labelled: Labelled) -> tuple[tuple[str, str], ...]:
    """Return each check that did not run with its reason."""
    return tuple(
        (
            f"{label_in(labelled, label, after=': ')}{row.contender}",
            row.reason or "no reason was recorded",
        )
        for label, run in labelled
        for row in self_check_rows(run)
        if row.status != "ok"
    )


def _cells(row: SelfCheckRow) -> list[str]:
    found, span = units.estimate(row.ratio, row.low, row.high)
    ratio = found or units.best_case_ratio(row.floor_ratio)
    return [
        row.contender,
        units.count(row.batch_size),
        units.boundary(row.boundary),
        ratio if row.status == "ok" else row.status,
        span,
        units.span(units.ratio(row.least), units.ratio(row.most)),
        units.verdict(row.verdict),
    ]

"""Two runs side by side, row by row: the text and the JSON of `bench diff`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.comparable import describe
from foldbench.bench.analysis.difference import (
    AccuracyChange,
    Difference,
    LatencyChange,
    Regression,
    Unmatched,
)
from foldbench.bench.records import Boundary, Run
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated


def render_difference(a: Run, b: Run, difference: Difference) -> str:
    """Return the tables for the terminal, ending in a newline."""
    sections = (
        ReportSection(
            "Warning: these runs are not comparable",
            notes=tuple(describe(c) for c in difference.contrasts if c.spoils),
        ),
        _latency(difference.latency, "host"),
        _latency(difference.latency, "device"),
        _accuracy(difference.accuracy),
        _unmatched(difference.unmatched),
        _mentioned(difference),
        ReportSection("Notes", notes=tuple(_notes(difference))),
    )
    shown = tuple(section for section in sections if section.table or section.notes)
    return render_terminal(Document(_title(a, b), shown))


def difference_json(
    a: Run, b: Run, difference: Difference, regressions: Sequence[Regression], limit: float | None
) -> dict[str, Any]:
    """Return the difference as JSON types: unrounded, seconds and shares of 1."""
    return {
        "a": _identity(a),
        "b": _identity(b),
        "comparable": not any(contrast.spoils for contrast in difference.contrasts),
        **json.loads(json.dumps(asdict(difference), allow_nan=False)),
        "fail_on": limit,
        "regressions": [asdict(regression) for regression in regressions],
    }


def describe_regression(regression: Regression) -> str:
    """Return one line: which row, what happened to it, and by how much."""
    where = _where(regression.contender, regression.batch_size, regression.boundary)
    if regression.kind == "lost":
        reason = f": {regression.reason}" if regression.reason else ""
        return f"{where}: ok in A, {regression.status} in B{reason}"
    change = units.percent(regression.change)
    unit = "%" if regression.kind == "slower" else "percentage points"
    return f"{where}: {regression.kind} by {change} {unit}"


def describe_unjudged(difference: Difference) -> str | None:
    """Return one line about the latencies that no verdict could be given on, None without any."""
    rows = [row for row in difference.latency if row.verdict is None]
    if not rows:
        return None
    return f"latency not judged, too few clean blocks: {_listed(rows)}"


def _title(a: Run, b: Run) -> str:
    return f"B, {b.name} of {b.created}, against A, {a.name} of {a.created}"


def _identity(run: Run) -> dict[str, str]:
    return {
        "run": run.name,
        "created": run.created,
        "checkpoint_sha256": run.checkpoint.sha256,
        "evaluation_sha256": run.evaluation_sha256,
    }


def _latency(rows: Sequence[LatencyChange], boundary: Boundary) -> ReportSection:
    columns = (
        left("contender"),
        right("batch"),
        right("A ms"),
        right("B ms"),
        right("A / B"),
        right("95 % interval"),
        left("B is"),
        right("clean A, B"),
    )
    title = "End-to-end latency (host to host)"
    if boundary == "device":
        title = "GPU compute latency (device-resident)"
    return ReportSection(
        title,
        table=tabulated(columns, [_latency_cells(r) for r in rows if r.boundary == boundary]),
        caption="Medians over clean blocks; A / B above 1: B is faster. The interval is a "
        "bootstrap over each run's clean blocks: it knows the scatter within the runs, not what "
        "the machine did between them. No difference is called one that is within 3 %, or within "
        "what the reference differed from itself by in either run.",
    )


def _latency_cells(row: LatencyChange) -> list[str]:
    ratio = row.ratio
    point, span = units.ratio(row.floor_ratio), ""
    if ratio:
        point, span = units.estimate(ratio.point, ratio.low, ratio.high)
    unjudged = "not judged" if ratio else "not judged: floors"
    return [
        row.contender,
        units.count(row.batch_size),
        units.milliseconds(row.a_s),
        units.milliseconds(row.b_s),
        point,
        span,
        row.verdict or unjudged,
        f"{units.count(row.a_clean_blocks)}, {units.count(row.b_clean_blocks)}",
    ]


def _accuracy(rows: Sequence[AccuracyChange]) -> ReportSection:
    columns = (
        left("contender"),
        right("A %"),
        right("B %"),
        right("B − A"),
        right("95 % interval"),
        right("other class"),
        left("B is"),
    )
    return ReportSection(
        "Accuracy",
        table=tabulated(columns, [_accuracy_cells(row) for row in rows]),
        caption=f"Top-1; differences in percentage points. {_interval_text(rows)}",
    )


def _interval_text(rows: Sequence[AccuracyChange]) -> str:
    paired = (
        "Other class: images that got another class in B. Which run is right is not looked "
        "up: the interval (Bonett and Price, paired) takes each of these for one that only one run "
        "has right. It is never narrower than labels would make it, and wider where many are wrong "
        "in both."
    )
    unpaired = (
        "Where other class is blank, the runs did not see the same images, or their classes were "
        "not stored: the interval is Newcombe's for unpaired shares."
    )
    kinds = {row.paired for row in rows}
    return " ".join([paired] * (True in kinds) + [unpaired] * (False in kinds))


def _accuracy_cells(row: AccuracyChange) -> list[str]:
    return [
        row.contender,
        units.percent(row.a),
        units.percent(row.b),
        units.points(row.difference),
        f"{units.points(row.low)} to {units.points(row.high)}",
        units.out_of(row.top1_different, row.images),
        row.verdict,
    ]


def _unmatched(rows: Sequence[Unmatched]) -> ReportSection:
    columns = (left("contender"), left("in A"), left("in B"), left("reason"))
    cells = [
        [_where(row.contender, row.batch_size, row.boundary), row.a, row.b, row.reason or ""]
        for row in rows
    ]
    return ReportSection("Not measured in both", table=tabulated(columns, cells))


def _mentioned(difference: Difference) -> ReportSection:
    rows = [[c.what, c.a, c.b] for c in difference.contrasts if not c.spoils]
    return ReportSection(
        "What differs between the runs",
        table=tabulated((left("what"), left("A"), left("B")), rows),
    )


def _notes(difference: Difference) -> list[str]:
    same = [
        row
        for row in difference.latency
        if row.same_work and row.verdict in ("faster", "slower") and row.ratio
    ]
    floors = [row for row in difference.latency if row.ratio is None]
    short = [row for row in difference.latency if row.ratio and row.verdict is None]
    notes = []
    if same:
        notes.append(
            f"{_listed(same)}: both runs ran the same file with the same runtime and settings, so "
            "the difference comes from the machine or from foldbench. Compare both again, one "
            "after the other, before other rows are believed."
        )
    if floors:
        notes.append(
            f"{_listed(floors)}: too few blocks were left alone by other programs; A / B is of "
            "the 5 % quantiles of all calls and says nothing of how sure it is. Compare again on "
            "a quieter machine, or with a larger compare.budget_s."
        )
    if short:
        notes.append(
            f"{_listed(short)}: too few rounds for an interval, so no verdict. Compare with more "
            "--rounds."
        )
    return notes


def _where(contender: str, batch_size: int | None, boundary: Boundary = "host") -> str:
    if batch_size is None:
        return contender
    resident = ", device-resident" if boundary == "device" else ""
    return f"{contender} at batch {batch_size}{resident}"


def _listed(rows: Sequence[LatencyChange]) -> str:
    return ", ".join(_where(row.contender, row.batch_size, row.boundary) for row in rows)

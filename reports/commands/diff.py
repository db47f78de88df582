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
    Regression,
    Unjudged,
    Unmatched,
)
from foldbench.bench.analysis.latency_change import Drift, LatencyChange
from foldbench.bench.records import Boundary, Run
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated
from foldbench.reports.text.names import name_of, spoken

WHERE_A_GATE_ANSWERS = (
    "bench gate A B times both in the same rounds, until it can tell or its budget is spent"
)


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
    moved = tuple(_drift_text(drift) for drift in difference.drifts)
    return render_terminal(Document(_title(a, b), shown, answer=moved))


def difference_json(
    a: Run,
    b: Run,
    difference: Difference,
    regressions: Sequence[Regression],
    unjudged: Sequence[Unjudged],
    limit: float | None,
) -> dict[str, Any]:
    """Return the difference as JSON types: unrounded, seconds and shares of 1."""
    return {
        "a": _identity(a),
        "b": _identity(b),
        "comparable": not any(contrast.spoils for contrast in difference.contrasts),
        **json.loads(json.dumps(asdict(difference), allow_nan=False)),
        "fail_on": limit,
        "regressions": [asdict(regression) for regression in regressions],
        "unjudged": [asdict(one) for one in unjudged],
    }


def describe_regression(regression: Regression) -> str:
    """Return one line: which row, what happened to it, and by how much."""
    where = _where(regression.contender, regression.batch_size, regression.boundary)
    if regression.kind == "lost":
        reason = f": {regression.reason}" if regression.reason else ""
        return f"{where}: ok in A, {regression.status} in B{reason}"
    change = units.percent(regression.change)
    slower = regression.kind == "slower"
    unit = "% relative to the baseline" if slower else "percentage points"
    return f"{where}: {regression.kind} by {change} {unit}"


def describe_unjudged(one: Unjudged) -> str:
    """Return one line: which row cannot be judged, and why."""
    where = f"{_where(one.contender, one.batch_size, one.boundary)}: " if one.contender else ""
    return f"cannot tell: {where}{one.reason}"


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
        right("time"),
        right("ratio"),
        right("95 % interval"),
        left("B is"),
        right("clean A, B"),
    )
    title = "End-to-end latency (host to host)"
    if boundary == "device":
        title = "GPU compute latency (device-resident)"
    here = [row for row in rows if row.boundary == boundary]
    return ReportSection(
        title,
        table=tabulated(columns, [_latency_cells(row) for row in here]),
        caption=_latency_text(here),
    )


def _latency_text(rows: Sequence[LatencyChange]) -> str:
    references = sorted({spoken(row.reference) for row in rows if row.reference})
    judged = (
        f"Ratio: how many times as fast as {' or '.join(references)} in the same rounds, in B "
        "divided by in A; above 1: B is faster. The interval is a bootstrap over the clean rounds "
        "of each run."
        if references
        else "Ratio: A / B in the same rounds; above 1: B is faster."
    )
    return (
        "Medians over clean blocks; time: how much longer B took, machine included. "
        f"{judged} No difference is called one that is within 3 %, or within what the baseline "
        "differed from itself by in either run."
    )


def _latency_cells(row: LatencyChange) -> list[str]:
    ratio = row.ratio
    point, span = units.ratio(row.floor_ratio), ""
    if ratio:
        point, span = units.estimate(ratio.point, ratio.low, ratio.high)
    verdict = row.verdict or ("cannot tell" if row.unjudged else "the baseline")
    moved = row.time_ratio
    return [
        name_of(row.contender),
        units.count(row.batch_size),
        units.milliseconds(row.a_s),
        units.milliseconds(row.b_s),
        f"{units.points(moved - 1)} %" if moved else "",
        point,
        span,
        verdict,
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
        name_of(row.contender),
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
    rows = difference.latency
    notes = []
    same = [row for row in rows if row.same_work and row.verdict in ("faster", "slower")]
    if same:
        notes.append(
            f"{_listed(same)}: both runs ran the same file with the same runtime and settings, so "
            "the difference comes from the machine or from foldbench. Compare both again, one "
            "after the other, before other rows are believed."
        )
    for reason in dict.fromkeys(row.unjudged for row in rows if row.unjudged):
        alike = [row for row in rows if row.unjudged == reason]
        notes.append(f"{_listed(alike)}: cannot tell: {reason}.")
    floors = [row for row in rows if row.floor_ratio is not None]
    if floors:
        notes.append(
            f"{_listed(floors)}: too few rounds were left alone by other programs; the ratio is of "
            "the 5 % quantiles of all calls and says nothing of how sure it is."
        )
    return notes


def _drift_text(drift: Drift) -> str:
    """Return what the absolute times did, and what follows."""
    where = f" on {drift.device}" if drift.device else ""
    resident = ", device-resident" if drift.boundary == "device" else ""
    change = f"{spoken(drift.reference)}{resident} itself took {_longer(drift.reference_ratio)}"
    if not drift.together:
        return (
            f"The baseline {change}, other rows{where} "
            f"between {_longer(drift.low)} and {_longer(drift.high)}: the ratios leave out what "
            "they share. Where the baseline alone moved, compare again before a ratio is believed."
        )
    cause = (
        "the machine drifted between the two comparisons, and no row did more than that"
        if drift.same_work
        else "the machine drifted, or the change slows the baseline as much as all others: bench "
        "compare RUN_A RUN_B, which measures both in the same rounds, tells which"
    )
    return (
        f"All rows{where}{resident} moved together: {change}, all between "
        f"{_longer(drift.low)} and {_longer(drift.high)}; {cause}."
    )


def _longer(ratio: float) -> str:
    """Return a ratio of times as how much more or less time it is."""
    return f"{units.percent(abs(ratio - 1))} % {'more' if ratio >= 1 else 'less'} time"


def _where(contender: str, batch_size: int | None, boundary: Boundary = "host") -> str:
    if batch_size is None:
        return spoken(contender)
    resident = ", device-resident" if boundary == "device" else ""
    return f"{spoken(contender)} at batch {batch_size}{resident}"


def _listed(rows: Sequence[LatencyChange]) -> str:
    return ", ".join(_where(row.contender, row.batch_size, row.boundary) for row in rows)

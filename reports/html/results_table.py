"""The main tables of a page, one for each machine: one row for each contender, the fastest first;
batch sizes are columns.

It shows the rows of `reports.sections.overview`, as the terminal does, rounded by the same
functions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup

from foldbench.bench import units
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.figures.speedups import bar
from foldbench.reports.rows.accuracy import AccuracyRow
from foldbench.reports.rows.latency import LatencyRow
from foldbench.reports.sections.overview import ContenderRow, Group, Overview
from foldbench.reports.text.names import name_parts

Kind = Literal["text", "number", "accuracy", "extra", "picture"]
"""Of a column: pictures go first where there is little room, then extras, then the accuracy."""


@dataclass(frozen=True)
class Heading:
    """A column."""

    text: str
    kind: Kind = "number"
    group: str = ""
    """The batch size that it belongs to; its first column bears that heading."""


@dataclass(frozen=True)
class Cell:
    """What a cell shows: a text, a smaller one beside it, a picture, and what it is sorted by."""

    text: str
    detail: str = ""
    value: float | None = None
    """Unrounded; None sorts by the text, blanks last."""
    picture: Markup | str = ""
    style: str = ""
    """faster, slower or open, of a speed-up."""
    tip: str = ""
    """What is shown on request: an interval, an id."""


@dataclass(frozen=True)
class ResultRow:
    """One contender."""

    cells: tuple[Cell, ...]
    is_baseline: bool


@dataclass(frozen=True)
class Results:
    """The table of one machine."""

    title: str
    """The machine; empty where there is one."""
    columns: tuple[Heading, ...]
    rows: tuple[ResultRow, ...]
    caption: str
    """Of all tables."""


def build_results(overview: Overview, series: dict[str, SeriesStyle]) -> tuple[Results, ...]:
    """Return a table for each machine on which something was timed in rounds."""
    machines = dict.fromkeys(row.machine for row in overview.rows)
    parts = {
        machine: replace(overview, rows=tuple(r for r in overview.rows if r.machine == machine))
        for machine in machines
    }
    caption = _caption(overview)
    return tuple(_table(machine, part, series, caption) for machine, part in parts.items())


def _table(
    machine: str, overview: Overview, series: dict[str, SeriesStyle], caption: str
) -> Results:
    top = max((_drawn(timed) for row in overview.rows for timed in row.timed.values()), default=1.0)
    rows = tuple(
        ResultRow(tuple(_cells(row, overview, series, top)), row.is_baseline())
        for row in overview.rows
    )
    return Results(machine, tuple(_columns(overview)), rows, caption)


def _told(group: Group) -> str:
    return f"Batch {units.count(group.batch_size)}{', GPU alone' * group.resident}"


def _columns(overview: Overview) -> Iterator[Heading]:
    yield Heading("contender", "text")
    if any(row.accuracy.accuracy is not None for row in overview.rows):
        yield Heading("top-1 %", "accuracy")
    if any(row.accuracy.agreement_images for row in overview.rows):
        yield Heading("same prediction", "extra")
    if any(row.accuracy.size_bytes for row in overview.rows):
        yield Heading("file size", "extra")
    for group in overview.groups:
        told = _told(group)
        yield Heading("median ms", group=told)
        if _has_p95(overview, group):
            yield Heading("p95 ms", "extra", told)
        if _has_speedups(overview):
            yield Heading("", "picture", told)
            yield Heading("speed-up", group=told)


def _has_p95(overview: Overview, group: Group) -> bool:
    return any(row.timed[group].p95_s is not None for row in overview.rows if group in row.timed)


def _has_speedups(overview: Overview) -> bool:
    rows = [row for of_row in overview.rows for row in of_row.timed.values()]
    return any(row.verdict for row in rows if row.contender != row.speedup_reference)


def _cells(
    row: ContenderRow, overview: Overview, series: dict[str, SeriesStyle], top: float
) -> Iterator[Cell]:
    runtime, *rest = name_parts(row.accuracy.contender)
    contender = row.accuracy.contender
    told = " · ".join(part for part in (row.label, ", ".join(rest)) if part)
    yield Cell(runtime, told, picture=series[contender].swatch(), tip=contender)
    yield from _accuracy(row.accuracy, overview)
    for group in overview.groups:
        yield from _timed(row, group, overview, top)


def _accuracy(row: AccuracyRow, overview: Overview) -> Iterator[Cell]:
    rows = [one.accuracy for one in overview.rows]
    if any(one.accuracy is not None for one in rows):
        span = units.span(units.percent(row.low), units.percent(row.high))
        tip = f"95 % interval {span}" if span else ""
        yield Cell(units.percent(row.accuracy), value=row.accuracy, tip=tip)
    if any(one.agreement_images for one in rows):
        same = row.agreement_top1_equal
        of = f"of {units.count(row.agreement_images)}" if same is not None else ""
        yield Cell(units.count(same), value=same, tip=of)
    if any(one.size_bytes for one in rows):
        yield Cell(units.size(row.size_bytes), value=row.size_bytes)


def _timed(row: ContenderRow, group: Group, overview: Overview, top: float) -> Iterator[Cell]:
    timed = row.timed.get(group)
    with_p95, with_speedups = _has_p95(overview, group), _has_speedups(overview)
    if timed is None:
        yield from [Cell("")] * (1 + with_p95 + 2 * with_speedups)
        return
    rate = f"{units.rate(timed.images_per_s)} images/s"
    yield Cell(units.milliseconds(timed.median_s), value=timed.median_s, tip=rate)
    if with_p95:
        yield Cell(units.milliseconds(timed.p95_s), value=timed.p95_s)
    if with_speedups:
        yield Cell("", picture=bar(timed, top))
        yield _speedup(timed, row.medians_ratio.get(group))


def _speedup(row: LatencyRow, medians_ratio: float | None) -> Cell:
    if row.speedup_reference is None:
        return Cell("", tip="no baseline on the same device")
    if row.speedup_reference == row.contender:
        return Cell("baseline", value=1.0, style="open")
    ratio, span = units.estimate(row.speedup_ratio, row.speedup_low, row.speedup_high)
    if row.verdict is None:
        few = f"{units.count(row.clean_rounds)} of {units.count(row.rounds)} rounds undisturbed"
        return Cell("–", value=None, style="open", tip=few)
    tip = f"95 % interval {span}"
    if row.verdict == "no difference resolved" or not row.is_claimed:
        return Cell("n.s.", f"{ratio}×", row.speedup_ratio, style="open", tip=tip)
    apart = f"medians {units.ratio(medians_ratio)}×" if medians_ratio else ""
    return Cell(f"{ratio}×", apart or span, row.speedup_ratio, style=row.verdict, tip=tip)


def _drawn(row: LatencyRow) -> float:
    return max(row.speedup_high or 0.0, row.speedup_ratio or 1.0, 1.0)


def _caption(overview: Overview) -> str:
    text = f"In {overview.legend}."
    images = {row.accuracy.agreement_images for row in overview.rows} - {None}
    if images:
        told = " or ".join(units.count(number) for number in sorted(filter(None, images)))
        text += f" Same prediction: as the reference gives, of {told} test images."
    if _has_speedups(overview):
        text += (
            " Speed-up: median of the ratios to the baseline in the same rounds; small: its 95 % "
            "interval, which is also the line in the bar. Dashed: as fast as the baseline. n.s.: "
            "no significant difference; –: too few undisturbed rounds."
        )
    if any(row.medians_ratio for row in overview.rows):
        text += (
            " Medians: their ratio, where it lies outside the interval because the machine drifted "
            "between rounds."
        )
    return text

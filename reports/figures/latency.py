"""Every timed call as a dot: how latency is distributed, and how it moved while it was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from foldbench.bench import units
from foldbench.bench.analysis.clean import clean_blocks
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import Run, Timing
from foldbench.reports.figures.axes import Scale, horizontal_axis
from foldbench.reports.figures.elements import drawing, element, group, line, number, short, text
from foldbench.reports.figures.figure import ReportFigure, latency_panels
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.rows.latency import LatencyRow, latency_rows
from foldbench.reports.text.document import left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import name_of

_WIDTH = 440
_STRIP = 54
"""Height of one contender's dots; the first call is at the top."""
_HEAD = 20
_FOOT = 12
"""Room under the dots for how many lie beyond the axis."""
_SHOWN = 0.995
"""Quantile of clean calls up to which the axis reaches; calls beyond it are at its end."""
_FEW = 400
"""Calls below which dots are larger."""
_GRID = 2
"""Dots in one half of a unit are one dot."""


@dataclass(frozen=True)
class _Strip:
    row: LatencyRow
    clean_s: list[tuple[float, float]]
    """(place in time from 0 to 1, seconds) of each call."""
    dirty_s: list[tuple[float, float]]


def latency_figure(
    labelled: Labelled, series: Mapping[str, SeriesStyle], raw: tuple[tuple[str, str], ...]
) -> ReportFigure | None:
    """Return a panel for each run and batch size, None when nothing was timed."""
    panels: list[Markup] = []
    cells: list[list[str]] = []
    for label, run in labelled:
        rows = [row for row in latency_rows(run) if row.batch_size is not None]
        for heading, here in latency_panels(labelled, label, rows):
            strips = [_strip(run, row) for row in here]
            panels.append(_panel(f"latency-{len(panels)}", heading, strips, series))
        cells += [[label_in(labelled, label), *_cells(run, row)] for row in rows]
    if not panels:
        return None
    columns = (
        left("model"),
        left("contender"),
        right("batch"),
        left("boundary"),
        right("clean rounds"),
        right("timed calls"),
        right("shortest ms"),
        right("median ms"),
        right("p95 ms"),
        right("longest ms"),
    )
    return ReportFigure(
        identity="latency",
        title="Every timed call",
        panels=tuple(panels),
        caption="Each dot is one timed call, the first at the top of its strip and the last at the "
        "bottom: a bend is a machine that changed. Grey dots are calls of blocks in which other "
        "programs ran (unless all were such); they are left out of the median (upright line) and "
        f"of p95 (dashed). The axis ends where {units.plain(100 * _SHOWN)} % of the counted "
        "calls do; "
        "later ones stand at its end.",
        table=tabulated(columns, cells),
        raw=raw,
    )


def _timing(run: Run, row: LatencyRow) -> Timing:
    found = (m for m in contenders(run) if m.contender == row.contender)
    wanted = row.batch_size, row.boundary
    return next(t for m in found for t in m.timings if (t.batch_size, t.boundary) == wanted)


def _cells(run: Run, row: LatencyRow) -> list[str]:
    samples = _timing(run, row).samples_s()
    return [
        name_of(row.contender),
        units.count(row.batch_size),
        units.boundary(row.boundary),
        f"{row.clean_rounds}/{row.rounds}",
        units.count(row.calls),
        units.milliseconds(min(samples, default=None)),
        units.milliseconds(row.median_s),
        units.milliseconds(row.p95_s),
        units.milliseconds(max(samples, default=None)),
    ]


def _strip(run: Run, row: LatencyRow) -> _Strip:
    timing = _timing(run, row)
    total = max(len(timing.samples_s()), 1)
    used = clean_blocks(timing)
    clean: list[tuple[float, float]] = []
    dirty: list[tuple[float, float]] = []
    for block in timing.blocks:
        kept = clean if block in used else dirty
        done = len(clean) + len(dirty)
        kept += [((done + i) / total, seconds) for i, seconds in enumerate(block.samples_s)]
    return _Strip(row, clean, dirty)


def _scale(strips: Sequence[_Strip]) -> Scale | None:
    """Return a scale in ms over what was measured, without the last few."""
    calls = [[s for _, s in (strip.clean_s or strip.dirty_s)] for strip in strips]
    found = [samples for samples in calls if samples and min(samples) > 0]
    if not found:
        return None
    low = min(min(samples) for samples in found)
    high = max(float(np.quantile(samples, _SHOWN)) for samples in found)
    high = max(high * 1.04, low * 1.1)
    return Scale(low * 1e3 / 1.03, high * 1e3, 2, _WIDTH - 4, logarithmic=True)


def _panel(
    identity: str, heading: str, strips: Sequence[_Strip], series: Mapping[str, SeriesStyle]
) -> Markup:
    scale = _scale(strips)
    top, height = 26, _HEAD + _STRIP + _FOOT
    bottom = top + height * len(strips) + 4
    marks = [text(short(heading, 60), 0, 14, "heading")]
    if scale is not None:
        marks.append(horizontal_axis(scale, top, bottom, "ms a call, logarithmic scale"))
        for i, strip in enumerate(strips):
            marks.append(_draw(strip, scale, top + i * height, series[strip.row.contender]))
    medians = "; ".join(
        f"{name_of(strip.row.contender)}: median {units.milliseconds(strip.row.median_s)} ms of "
        f"{units.count(strip.row.calls)} calls"
        for strip in strips
    )
    title = f"Every timed call: {heading}"
    return drawing(
        identity, _WIDTH, bottom + 38, title, f"Dots for single calls. {medians}.", *marks
    )


def _draw(strip: _Strip, scale: Scale, top: float, series: SeriesStyle) -> Markup:
    row = strip.row
    upper, lower = top + _HEAD, top + _HEAD + _STRIP - 6
    few = len(strip.clean_s) + len(strip.dirty_s) < _FEW
    style = "dots few" if few else "dots"
    marks = [
        text(short(name_of(row.contender), 44), 0, top + 13, "label"),
        text(_numbers(row), _WIDTH - 4, top + 13, "note", "end"),
        element("path", d=_dots(strip.dirty_s, scale, upper, lower), class_=f"{style} dirty"),
        element("path", d=_dots(strip.clean_s, scale, upper, lower), class_=style),
    ]
    for value_s, kind in ((row.median_s, "median"), (row.p95_s, "percentile")):
        if value_s is not None:
            x = scale(value_s * 1e3)
            marks.append(line(x, upper - 3, x, lower + 3, kind))
    marks += _beyond(strip, scale, lower)
    return group(*marks, class_=series.style)


def _numbers(row: LatencyRow) -> str:
    p95 = f", p95 {units.milliseconds(row.p95_s)}" if row.p95_s is not None else ""
    return f"median {units.milliseconds(row.median_s)}{p95} ms"


def _dots(
    calls: Sequence[tuple[float, float]], scale: Scale, upper: float, lower: float
) -> str | None:
    """Return a path that is a dot for each call, those in the same place once."""
    places = {
        (round(scale(s * 1e3) * _GRID), round((upper + at * (lower - upper)) * _GRID))
        for at, s in calls
        if s > 0
    }
    steps, x0, y0 = [], 0, 0
    for y, x in sorted((y, x) for x, y in places):
        steps.append(f"m{number((x - x0) / _GRID)} {number((y - y0) / _GRID)}h0")
        x0, y0 = x, y
    return "".join(steps) or None


def _beyond(strip: _Strip, scale: Scale, lower: float) -> Iterator[Markup]:
    """Yield how many calls took longer than the axis shows, and how long the longest took."""
    later = [s for _, s in (*strip.clean_s, *strip.dirty_s) if s * 1e3 > scale.high]
    if later:
        label = f"{units.count(len(later))} beyond, to {units.milliseconds(max(later))} ms"
        yield text(label, _WIDTH - 4, lower + _FOOT, "note halo", "end")

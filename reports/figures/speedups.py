"""Speed-ups with their intervals on a ruler, or one of them as a bar in a table's cell."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from foldbench.bench import units
from foldbench.bench.analysis.estimates import RESOLUTION
from foldbench.reports.figures.axes import Scale, horizontal_axis, padded_ratio
from foldbench.reports.figures.elements import drawing, element, group, line, short, text
from foldbench.reports.figures.figure import ReportFigure, latency_panels
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.rows.latency import LatencyRow, latency_rows
from foldbench.reports.text.document import left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in, told_baselines
from foldbench.reports.text.names import name_of

_WIDTH = 440
_ROW = 34
_ROOM = 1.1
"""How far either side of 1 is shown at the least."""


def ruler(rows: Sequence[LatencyRow], start: float, end: float) -> Scale:
    """Return a scale that holds every interval of `rows`, and some room on either side of 1."""
    values = [
        value
        for row in rows
        for value in (row.speedup_ratio, row.speedup_low, row.speedup_high)
        if value
    ]
    low, high = padded_ratio([1 / _ROOM, _ROOM, *values], 0.05)
    return Scale(low, high, start, end, logarithmic=True)


def bar(row: LatencyRow, top: float) -> Markup:
    """Return a speed-up as a bar from 0 to at most `top`, its interval on it, and a line at 1."""
    if row.speedup_ratio is None or (
        row.verdict is None and row.speedup_reference != row.contender
    ):
        return Markup("")
    scale = Scale(0.0, top, 0.0, _BAR)
    found = [element("rect", x=0, y=3, width=scale(row.speedup_ratio), height=8, class_="length")]
    if row.speedup_low is not None and row.speedup_high is not None:
        found.append(line(scale(row.speedup_low), 7, scale(row.speedup_high), 7, "interval"))
    found.append(line(scale(1), 0, scale(1), 14, "one"))
    claimed = row.verdict if row.is_claimed else ""
    return element(
        "svg",
        *found,
        viewBox=f"0 0 {_BAR + 1} 14",
        class_=f"speedup {claimed if claimed in ('faster', 'slower') else 'open'}",
        aria_hidden="true",
    )


_BAR = 110


def speedup_figure(
    labelled: Labelled, series: Mapping[str, SeriesStyle], raw: tuple[tuple[str, str], ...]
) -> ReportFigure | None:
    """Return a panel for each run and batch size, None where no speed-up has an interval."""
    panels: list[Markup] = []
    cells: list[list[str]] = []
    names: list[str] = []
    scale = ruler([row for _, run in labelled for row in latency_rows(run)], 2, _WIDTH - 4)
    for label, run in labelled:
        rows = [row for row in latency_rows(run) if row.speedup_low is not None]
        for heading, here in latency_panels(labelled, label, rows):
            panels.append(_panel(f"speedups-{len(panels)}", heading, here, scale, series))
        cells += [[label_in(labelled, label), *_cells(row)] for row in rows]
        names += [row.contender for row in rows]
    if not panels:
        return None
    columns = (
        left("model"),
        left("contender"),
        right("batch"),
        left("boundary"),
        right("speed-up"),
        right("95 % interval"),
        right("A/A difference"),
        left("verdict"),
    )
    return ReportFigure(
        identity="speedups",
        title="Speed-up and its interval",
        panels=tuple(panels),
        caption=f"Right of 1 is faster than {told_baselines(labelled)} on the same device. The bar "
        "is the 95 % "
        "interval. The band is what is not significant: the larger of "
        f"{units.by_name('_ratio', RESOLUTION)} and the A/A difference in the same rounds. Hollow: "
        "no significant difference.",
        table=tabulated(columns, cells),
        legend=tuple((series[name], name_of(name)) for name in dict.fromkeys(names)),
        raw=raw,
    )


def _cells(row: LatencyRow) -> list[str]:
    floor = row.noise_floor
    return [
        name_of(row.contender),
        units.count(row.batch_size),
        units.boundary(row.boundary),
        *units.estimate(row.speedup_ratio, row.speedup_low, row.speedup_high),
        "" if floor is None else units.by_name("_ratio", floor),
        row.verdict or "",
    ]


def _panel(
    identity: str,
    heading: str,
    rows: Sequence[LatencyRow],
    scale: Scale,
    series: Mapping[str, SeriesStyle],
) -> Markup:
    top = 26
    bottom = top + _ROW * len(rows) + 4
    marks = [
        text(short(heading, 56), 0, 14, "heading"),
        horizontal_axis(scale, top, bottom, "times as fast, logarithmic scale"),
        *(_band(row, scale, top + i * _ROW) for i, row in enumerate(rows)),
        line(scale(1), top, scale(1), bottom, "one"),
        *(_draw(row, scale, top + i * _ROW, series[row.contender]) for i, row in enumerate(rows)),
    ]
    described = "; ".join(f"{name_of(row.contender)}: {_label(row)}, {row.verdict}" for row in rows)
    title = f"Speed-up and its interval, {heading}"
    return drawing(identity, _WIDTH, bottom + 38, title, f"{described}.", *marks)


def _label(row: LatencyRow) -> str:
    ratio, span = units.estimate(row.speedup_ratio, row.speedup_low, row.speedup_high)
    return f"{ratio} ({span})"


def _band(row: LatencyRow, scale: Scale, top: float) -> Markup:
    """Return what is not told apart from 1."""
    floor = max(row.noise_floor or 0.0, RESOLUTION)
    start, end = scale(max(1 - floor, scale.low)), scale(1 + floor)
    return element("rect", x=start, y=top + 18, width=end - start, height=12, class_="band")


def _draw(row: LatencyRow, scale: Scale, top: float, series: SeriesStyle) -> Markup:
    y = top + 24
    return group(
        text(short(name_of(row.contender), 44), 0, top + 14, "label halo"),
        text(_label(row), scale.end, top + 14, "note halo", "end"),
        line(scale(row.speedup_low or 1), y, scale(row.speedup_high or 1), y, "interval"),
        series.marker(scale(row.speedup_ratio or 1), y, row.verdict == "no difference resolved"),
        class_=series.style,
    )

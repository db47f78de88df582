"""Speed-ups and accuracies over the runs of one configuration on one machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foldbench.bench import units
from foldbench.reports.figures.axes import Scale, padded, vertical_axis
from foldbench.reports.figures.elements import drawing, element, group, line, number, short, text
from foldbench.reports.figures.figure import ReportFigure
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.rows.history import HistoryPoint, RunGroup
from foldbench.reports.text.names import name_of

_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 428, 44, 206
_NAMED = 4
"""Runs up to which each is named on the axis; of more, the first and the last."""


@dataclass(frozen=True)
class _TrendValue:
    """One point's place, with its interval and whether it is resolved."""

    run: str
    value: float
    low: float | None
    high: float | None
    hollow: bool


def trend_figure(
    identity: str,
    history: RunGroup,
    series: Mapping[str, SeriesStyle],
    raw: tuple[tuple[str, str], ...],
) -> ReportFigure | None:
    """Return a panel for each batch size's speed-ups and one for accuracy, None without either."""
    runs = [run.name for run in history.runs]
    panels = []
    sizes = sorted({size for _, size in history.series()})
    for size in sizes:
        lines = {
            contender: _values(points, _speedup)
            for (contender, at), points in history.series().items()
            if at == size and any(p.speedup_low is not None for p in points)
        }
        heading = f"Speed-up at batch {units.count(size)}"
        panels.append(_panel(f"{identity}-{size}", heading, "times as fast", runs, lines, series))
    shares = {name: _values(points, _share) for name, points in history.accuracies().items()}
    panels.append(_panel(f"{identity}-accuracy", "Accuracy", "accuracy %", runs, shares, series))
    shown = tuple(panel for panel in panels if panel)
    if not shown:
        return None
    names = dict.fromkeys(point.contender for point in history.points)
    return ReportFigure(
        identity=identity,
        title=f"{history.title}: the trend",
        panels=shown,
        caption="Runs in the order in which they were compared, evenly spaced. Whiskers: 95 % "
        "intervals. Hollow: no difference from the baseline resolved.",
        table=None,
        legend=tuple((series[name], name_of(name)) for name in names),
        raw=raw,
    )


def _values(
    points: Sequence[HistoryPoint], read: Callable[[HistoryPoint], _TrendValue | None]
) -> list[_TrendValue]:
    return [value for value in map(read, points) if value is not None]


def _speedup(point: HistoryPoint) -> _TrendValue | None:
    if point.speedup_ratio is None:
        return None
    hollow = point.verdict == "no difference resolved"
    low, high = point.speedup_low, point.speedup_high
    return _TrendValue(point.run, point.speedup_ratio, low, high, hollow)


def _share(point: HistoryPoint) -> _TrendValue | None:
    if point.accuracy is None or point.accuracy_low is None or point.accuracy_high is None:
        return None
    low, high = 100 * point.accuracy_low, 100 * point.accuracy_high
    return _TrendValue(point.run, 100 * point.accuracy, low, high, False)


def _panel(
    identity: str,
    heading: str,
    unit: str,
    runs: Sequence[str],
    lines: Mapping[str, Sequence[_TrendValue]],
    series: Mapping[str, SeriesStyle],
) -> Markup:
    ends = [
        end
        for values in lines.values()
        for v in values
        for end in (v.value, v.low, v.high)
        if end is not None
    ]
    if not ends:
        return Markup("")
    y = Scale(*padded(ends, 0.1), _BOTTOM, _TOP)
    x = Scale(0, max(len(runs) - 1, 1), _LEFT + 8, _RIGHT - 8)
    marks = [text(heading, 0, 14, "heading"), vertical_axis(y, _LEFT, _RIGHT, unit)]
    marks += [
        text(short(run, 14), x(i), _BOTTOM + 16, "tick", _anchor(i, len(runs)))
        for i, run in enumerate(runs)
        if len(runs) <= _NAMED or i in (0, len(runs) - 1)
    ]
    for contender, values in lines.items():
        marks.append(_line(runs, values, x, y, series[contender]))
    described = "; ".join(
        f"{name_of(name)}: {units.ratio(values[0].value)} first, "
        f"{units.ratio(values[-1].value)} last"
        for name, values in lines.items()
    )
    return drawing(identity, _WIDTH, _HEIGHT, f"{heading} over time", f"{described}.", *marks)


def _anchor(position: int, count: int) -> str:
    if position == 0:
        return "start"
    return "end" if position == count - 1 else "middle"


def _line(
    runs: Sequence[str], values: Sequence[_TrendValue], x: Scale, y: Scale, series: SeriesStyle
) -> Markup:
    places = [(x(runs.index(v.run)), y(v.value), v) for v in values]
    path = "L".join(f"{number(at)} {number(level)}" for at, level, _ in places)
    marks = [element("path", d=f"M{path}", class_="joined")]
    for at, _, v in places:
        if v.low is not None and v.high is not None:
            marks.append(line(at, y(v.low), at, y(v.high), "whisker"))
    marks += [series.marker(at, level, v.hollow) for at, level, v in places]
    return group(*marks, class_=series.style)

"""Accuracy against latency: which contenders nothing else beats in both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foldbench.bench import units
from foldbench.reports.figures.axes import (
    Scale,
    horizontal_axis,
    padded,
    padded_ratio,
    vertical_axis,
)
from foldbench.reports.figures.elements import drawing, element, group, line, number, short, text
from foldbench.reports.figures.figure import ReportFigure
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.rows.accuracy import accuracy_rows
from foldbench.reports.rows.latency import host_rows
from foldbench.reports.text.document import left, right, tabulated
from foldbench.reports.text.labels import Labelled
from foldbench.reports.text.machines import machine_of, machines_of
from foldbench.reports.text.names import name_of

_WIDTH, _HEIGHT = 440, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 428, 44, 296


@dataclass(frozen=True)
class TradeoffPoint:
    """One contender of one run at one batch size; accuracies are shares of 1."""

    label: str
    contender: str
    batch_size: int
    machine: str
    median_s: float
    accuracy: float
    low: float
    high: float
    undisturbed: bool = True
    """Whether any round was clean; the median of a loaded machine says little."""


def find_points(labelled: Labelled) -> list[TradeoffPoint]:
    """Return a point for each contender and batch size that has both figures."""
    found = []
    for label, run in labelled:
        scored = {row.contender: row for row in accuracy_rows(run) if row.accuracy is not None}
        for row in host_rows(run):
            at = scored.get(row.contender)
            if at is None or row.median_s is None or row.batch_size is None:
                continue
            numbers = (row.median_s, at.accuracy or 0.0, at.low or 0.0, at.high or 0.0)
            where = machine_of(run)
            clean = bool(row.clean_rounds)
            found.append(
                TradeoffPoint(label, row.contender, row.batch_size, where, *numbers, clean)
            )
    return found


def pareto_front(points: Sequence[TradeoffPoint]) -> list[TradeoffPoint]:
    """Return the points that no other one beats: none is as accurate and faster, nor the reverse.

    In order of latency. Of several that are equal in both, all are kept.
    """
    return sorted(
        (
            point
            for point in points
            if not any(
                other.median_s <= point.median_s
                and other.accuracy >= point.accuracy
                and (other.median_s, other.accuracy) != (point.median_s, point.accuracy)
                for other in points
            )
        ),
        key=lambda point: (point.median_s, point.accuracy),
    )


def tradeoff_figure(
    labelled: Labelled, series: Mapping[str, SeriesStyle], raw: tuple[tuple[str, str], ...]
) -> ReportFigure | None:
    """Return a panel for each batch size and machine, None where nothing has both figures."""
    points = find_points(labelled)
    groups = [
        (machine, size, [p for p in points if (p.machine, p.batch_size) == (machine, size)])
        for machine in machines_of([run for _, run in labelled])
        for size in sorted({p.batch_size for p in points})
    ]
    groups = [group for group in groups if group[2]]
    if not groups:
        return None
    several = len({machine for machine, _, _ in groups}) > 1
    panels, rows = [], []
    for i, (machine, size, here) in enumerate(groups):
        heading = f"Batch {units.count(size)}" + (f" on {machine}" if several else "")
        front = pareto_front(here)
        panels.append(_panel(f"tradeoff-{i}", heading, here, front, series))
        rows += [_cells(p, p in front, machine if several else "") for p in here]
    columns = (
        left("model" if len(labelled) > 1 else "run"),
        left("contender"),
        right("batch"),
        right("median ms"),
        right("accuracy %"),
        right("95 % interval"),
        left("on the front"),
        left("machine"),
    )
    return ReportFigure(
        identity="tradeoff",
        title="Accuracy against latency",
        panels=tuple(panels),
        caption="Up and to the left is better. Whiskers: 95 % interval of the accuracy. Ringed: "
        "what no other contender equals or beats in both figures (the Pareto front), as measured; "
        "neighbours closer than their intervals may change places. Hollow: no round of it was "
        "left undisturbed.",
        table=tabulated(columns, rows),
        legend=tuple(
            (series[name], name_of(name)) for name in dict.fromkeys(p.contender for p in points)
        ),
        raw=raw,
    )


def _cells(point: TradeoffPoint, on_front: bool, machine: str) -> list[str]:
    return [
        point.label,
        name_of(point.contender),
        units.count(point.batch_size),
        units.milliseconds(point.median_s),
        units.percent(point.accuracy),
        units.span(units.percent(point.low), units.percent(point.high)),
        "yes" if on_front else "no",
        machine,
    ]


def _panel(
    identity: str,
    heading: str,
    points: Sequence[TradeoffPoint],
    front: Sequence[TradeoffPoint],
    series: Mapping[str, SeriesStyle],
) -> Markup:
    low, high = padded_ratio([p.median_s * 1e3 for p in points], 0.12)
    x = Scale(low, high, _LEFT, _RIGHT, logarithmic=True)
    y_low, y_high = padded([100 * v for p in points for v in (p.low, p.high)], 0.12)
    y = Scale(y_low, y_high, _BOTTOM, _TOP)
    marks = [
        text(short(heading, 60), 0, 14, "heading"),
        vertical_axis(y, _LEFT, _RIGHT, "accuracy %"),
        horizontal_axis(x, _TOP, _BOTTOM, "median ms a call, logarithmic scale"),
        _front_line(front, x, y),
    ]
    for point in points:
        at = x(point.median_s * 1e3)
        style = series[point.contender]
        whisker = line(at, y(100 * point.low), at, y(100 * point.high), "whisker")
        marks.append(group(whisker, class_=style.style))
        marks.append(style.marker(at, y(100 * point.accuracy), not point.undisturbed))
        if point in front:
            ring = {"cx": at, "cy": y(100 * point.accuracy), "r": 8}
            marks.append(element("circle", **ring, class_="ring"))
    if len({p.label for p in points}) > 1:
        marks += _names(points, x, y)
    described = "; ".join(
        f"{p.label} {name_of(p.contender)} with {units.milliseconds(p.median_s)} ms and "
        f"{units.percent(p.accuracy)} %"
        for p in front
    )
    description = f"{len(points)} contenders. On the Pareto front: {described}."
    return drawing(
        identity, _WIDTH, _HEIGHT, f"Accuracy against latency, {heading}", description, *marks
    )


def _front_line(front: Sequence[TradeoffPoint], x: Scale, y: Scale) -> Markup:
    """Return steps: between two points of the front, nothing better than the left one is known."""
    steps, before = "", None
    for point in front:
        at, level = number(x(point.median_s * 1e3)), number(y(100 * point.accuracy))
        steps += f"M{at} {level}" if before is None else f"H{at}V{level}"
        before = point
    return element("path", d=steps or None, class_="front")


def _names(points: Sequence[TradeoffPoint], x: Scale, y: Scale) -> list[Markup]:
    """Return each run's name above its fastest point, moved up where names would overlap."""
    placed: list[tuple[float, float]] = []
    marks = []
    first = {p.label: p for p in sorted(points, key=lambda p: p.median_s, reverse=True)}
    for label, point in sorted(first.items(), key=lambda item: -item[1].accuracy):
        at, level = x(point.median_s * 1e3), y(100 * point.high) - 7
        while any(abs(level - other) < 13 and abs(at - beside) < 110 for beside, other in placed):
            level += 13
        placed.append((at, level))
        late = at > (_LEFT + _RIGHT) / 2
        marks.append(text(short(label, 24), at, level, "label halo", "end" if late else "start"))
    return marks

"""One panel of curves: what a quantity does along another, each point a measurement."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foldbench.reports.figures.axes import Scale, horizontal_axis, padded_ratio, vertical_axis
from foldbench.reports.figures.elements import drawing, element, group, line, number, short, text
from foldbench.reports.figures.marks import SeriesStyle

_WIDTH, _HEIGHT = 440, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 424, 44, 236
_LONGEST, _LETTER = 18, 6.4
"""Letters of a name that stands behind a curve, and the width of one, about."""
_APART = 13
"""Least distance of two names that stand below each other."""


@dataclass(frozen=True)
class Curve:
    """Positive values along an axis, in its order."""

    told: str
    """What it shows, for those who cannot see it."""
    style: SeriesStyle
    points: tuple[tuple[float, float], ...]
    name: str = ""
    """Stands behind its last point; empty where the legend tells."""
    labels: tuple[str, ...] = ()
    """Of its points; none where the axes tell."""


@dataclass(frozen=True)
class Axes:
    """What the two axes show."""

    x: str
    y: str
    places: tuple[str, ...] = ()
    """Names of 0, 1, 2, … along x; without them, x is on a logarithmic scale."""


@dataclass(frozen=True)
class Bound:
    """A line across the panel, at a value of one axis."""

    value: float
    name: str
    is_upright: bool = False


def curve_panel(
    identity: str,
    heading: str,
    curves: Sequence[Curve],
    axes: Axes,
    bounds: Sequence[Bound] = (),
) -> Markup:
    """Return a panel with `curves` of at least one point in all, y on a logarithmic scale."""
    points = [point for curve in curves for point in curve.points]
    values = [y for _, y in points] + [bound.value for bound in bounds if not bound.is_upright]
    y = Scale(*padded_ratio(values), _BOTTOM, _TOP, logarithmic=True)
    longest = max(len(short(curve.name, _LONGEST)) for curve in curves)
    right = _RIGHT - _LETTER * longest
    marks = [text(short(heading, 64), 0, 14, "heading"), vertical_axis(y, _LEFT, right, axes.y)]
    if axes.places:
        x = Scale(0, max(len(axes.places) - 1, 1), _LEFT + 14, right - 14)
        marks.append(_named_places(axes, x))
    else:
        x = Scale(*padded_ratio([at for at, _ in points]), _LEFT, right, logarithmic=True)
        marks.append(horizontal_axis(x, _TOP, _BOTTOM, axes.x))
    marks += [_bound(bound, x, y, right) for bound in bounds]
    marks += [_drawn(curve, x, y) for curve in curves if curve.points]
    marks += _names([curve for curve in curves if curve.name and curve.points], x, y)
    described = "; ".join(curve.told for curve in curves)
    return drawing(identity, _WIDTH, _HEIGHT, heading, f"{described}.", *marks)


def _named_places(axes: Axes, x: Scale) -> Markup:
    marks = [text(name, x(i), _BOTTOM + 14, "tick", "middle") for i, name in enumerate(axes.places)]
    return group(*marks, text(axes.x, x.end, _BOTTOM + 30, "axis", "end"))


def _bound(bound: Bound, x: Scale, y: Scale, right: float) -> Markup:
    if bound.is_upright:
        at = x(bound.value)
        named = text(bound.name, at - 4, _TOP + 10, "note halo", "end")
        return group(line(at, _TOP, at, _BOTTOM, "front"), named)
    at = y(bound.value)
    named = text(bound.name, _LEFT + 4, at - 4, "note halo")
    return group(line(_LEFT, at, right, at, "front"), named)


def _drawn(curve: Curve, x: Scale, y: Scale) -> Markup:
    places = [(x(at), y(value)) for at, value in curve.points]
    path = "L".join(f"{number(left)} {number(top)}" for left, top in places)
    marks = [element("path", d=f"M{path}", class_="joined")] if len(places) > 1 else []
    marks += [curve.style.marker(left, top) for left, top in places]
    marks += [
        text(label, left + 7, top - 5, "note halo")
        for (left, top), label in zip(places, curve.labels, strict=False)
    ]
    return group(*marks, class_=curve.style.style)


def _names(curves: Sequence[Curve], x: Scale, y: Scale) -> list[Markup]:
    """Return the names behind the curves' ends, moved apart where they would overlap."""
    ends = sorted(((y(c.points[-1][1]), x(c.points[-1][0]), c) for c in curves), key=_height)
    marks, lowest = [], float("-inf")
    for top, left, curve in ends:
        lowest = max(top, lowest + _APART)
        marks.append(text(short(curve.name, _LONGEST), left + 9, lowest + 4, "label halo"))
    return marks


def _height(end: tuple[float, float, Curve]) -> float:
    return end[0]

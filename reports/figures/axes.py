"""Scales from values to places in a drawing, their ticks, and the axes that show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

from foldbench.bench import units
from foldbench.reports.figures.elements import group, line, text


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` spread from `start` to `end`, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of `value`; one beyond the ends is put at the end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = log10(low), log10(high), log10(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Return round values within the scale, about `wanted` of them."""
        if self.logarithmic and self.high > 4 * self.low:
            return _decades(self.low, self.high, wanted)
        return _round_values(self.low, self.high, wanted)


def _round_values(low: float, high: float, wanted: int) -> list[float]:
    if not high > low:
        return [low]
    rough = (high - low) / max(wanted, 1)
    magnitude = 10.0 ** floor(log10(rough))
    step = min(
        (factor * magnitude for factor in (1, 2, 5, 10)), key=lambda found: abs(found - rough)
    )
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _decades(low: float, high: float, wanted: int) -> list[float]:
    for mantissas in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [
            round(mantissa * 10.0**power, 12)
            for power in range(floor(log10(low)), ceil(log10(high)) + 1)
            for mantissa in mantissas
        ]
        found = [value for value in found if low <= value <= high]
        if len(found) <= wanted + 2:
            break
    return found


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Return a range that holds `values` with some room around them."""
    low, high = min(values), max(values)
    room = share * (high - low) or abs(high) * share or 1.0
    return low - room, high + room


def padded_ratio(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """Return a range for a logarithmic scale that holds positive `values` with room around them."""
    low, high = min(values), max(values)
    factor = (high / low) ** share if high > low else 1.0
    factor = max(factor, 1.01)
    return low / factor, high * factor


def horizontal_axis(scale: Scale, top: float, bottom: float, label: str) -> Markup:
    """Return upright grid lines from `top` to `bottom`, their values below, and what they are."""
    marks = []
    for value in scale.ticks():
        x = scale(value)
        marks.append(line(x, top, x, bottom, "grid"))
        anchor = "end" if abs(x - scale.end) < 10 else "start" if x < 10 else "middle"
        marks.append(text(units.plain(float(value)), x, bottom + 14, "tick", anchor))
    marks.append(text(label, scale.end, bottom + 30, "axis", "end"))
    return group(*marks)


def vertical_axis(scale: Scale, left: float, right: float, label: str) -> Markup:
    """Return level grid lines from `left` to `right`, their values beside, and what they are."""
    marks = []
    for value in scale.ticks():
        y = scale(value)
        marks.append(line(left, y, right, y, "grid"))
        marks.append(text(units.plain(float(value)), left - 6, y + 4, "tick", "end"))
    marks.append(text(label, 0, scale.end - 12, "axis"))
    return group(*marks)

"""How contenders are told apart in pictures, the same all over a page.

Colour says which runtime, shade and shape which of its variants; labels stand beside the marks, so
that nothing is said by colour alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foldbench.reports.figures.elements import element, number

_HUES = {"torch": 0, "ort": 2, "torch_compile": 1, "openvino": 3}
"""The runtime's colour in the style sheet, ``.s0`` and on; other runtimes take those after."""
_COLOURS, _SHADES = 7, 4


_SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",  # circle
    "M-3.6 -3.6h7.2v7.2h-7.2z",  # square
    "M0 -4.6L4.4 3.4H-4.4z",  # triangle
    "M0 -5L5 0L0 5L-5 0z",  # diamond
    "M0 4.6L4.4 -3.4H-4.4z",  # triangle, point down
    "M-1.5 -4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",  # cross
)


@dataclass(frozen=True)
class SeriesStyle:
    """How one contender is drawn: in the colour of its runtime, in a shade and shape of its own."""

    hue: int
    number: int
    """Among the contenders of the same runtime."""

    @property
    def style(self) -> str:
        """Its classes in the style sheet."""
        return f"s{self.hue % _COLOURS} d{self.number % _SHADES}"

    def marker(self, x: float, y: float, hollow: bool = False) -> Markup:
        """Return its shape around a point; hollow where something is not resolved."""
        return element(
            "path",
            d=_SHAPES[self.number % len(_SHAPES)],
            transform=f"translate({number(x)} {number(y)})",
            class_=f"{self.style} {'hollow' if hollow else 'mark'}",
        )

    def swatch(self) -> Markup:
        """Return its shape alone, to stand beside its name."""
        return element(
            "svg", self.marker(6, 6), viewBox="0 0 12 12", class_="swatch", aria_hidden="true"
        )


def assign(names: Sequence[str]) -> dict[str, SeriesStyle]:
    """Return a series for each contender, in their order."""
    found: dict[str, SeriesStyle] = {}
    hues = dict(_HUES)
    counts: dict[int, int] = {}
    for name in dict.fromkeys(names):
        hue = hues.setdefault(name.partition("/")[0].partition(":")[0], len(hues))
        found[name] = SeriesStyle(hue, counts.get(hue, 0))
        counts[hue] = counts.get(hue, 0) + 1
    return found

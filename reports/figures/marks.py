"""How contenders are told apart in pictures: a colour and a shape, the same all over a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foldbench.reports.figures.elements import element, number

COLOURS = 7
"""Series colours in the style sheet, ``.s0`` and on."""

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
    """One contender's number among those of the page."""

    number: int

    @property
    def style(self) -> str:
        """Its class in the style sheet."""
        return f"s{self.number % COLOURS}"

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


def assign(names: Sequence[str]) -> Mapping[str, SeriesStyle]:
    """Return a series for each name, in their order."""
    return {name: SeriesStyle(i) for i, name in enumerate(dict.fromkeys(names))}

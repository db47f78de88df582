"""One panel of bars that consist of parts, one bar below the other, all in one scale."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foldbench.reports.figures.elements import drawing, element, group, short, text
from foldbench.reports.figures.marks import SeriesStyle

_WIDTH, _ROW, _BAR, _TOP = 440, 46, 17, 24
_LETTER = 6.2
"""Width of a letter, about."""


@dataclass(frozen=True)
class StackPart:
    """One part of a bar."""

    name: str
    size: float
    """In the unit of all of them, 0 or more."""
    told: str
    """Its size in words."""
    is_strong: bool = False
    """Whether it is the one to look at."""


@dataclass(frozen=True)
class Stack:
    """One bar: its parts from left to right, and what it is in all."""

    name: str
    style: SeriesStyle
    parts: tuple[StackPart, ...]
    whole: str


def stack_panel(identity: str, heading: str, stacks: Sequence[Stack]) -> Markup:
    """Return a panel with a bar for each stack; the longest is as long as the panel is wide."""
    longest = max(sum(part.size for part in stack.parts) for stack in stacks) or 1.0
    marks = [text(short(heading, 64), 0, 14, "heading")]
    for i, stack in enumerate(stacks):
        top = _TOP + i * _ROW
        marks.append(text(short(stack.name, 52), 0, top + 14, "label"))
        marks.append(text(stack.whole, _WIDTH - 4, top + 14, "note", "end"))
        marks.append(group(*_bars(stack, top + 20, longest), class_=stack.style.style))
    bottom = _TOP + _ROW * len(stacks)
    described = "; ".join(
        f"{stack.name}: {stack.whole}, of it "
        + ", ".join(f"{part.name} {part.told}" for part in stack.parts)
        for stack in stacks
    )
    return drawing(identity, _WIDTH, bottom + 4, heading, f"{described}.", *marks)


def _bars(stack: Stack, top: float, longest: float) -> Iterator[Markup]:
    x = 0.0
    for i, part in enumerate(stack.parts):
        width = (_WIDTH - 4) * part.size / longest
        shade = "core" if part.is_strong else f"shade{i % 2}"
        yield element("rect", x=x, y=top, width=width, height=_BAR, class_=f"stack {shade}")
        for shown in (f"{part.name} {part.told}", part.name):
            if len(shown) * _LETTER + 6 <= width:
                kind = "count strong" if part.is_strong else "count"
                yield text(shown, x + width / 2, top + _BAR / 2 + 4, kind, "middle")
                break
        x += width

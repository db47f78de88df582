"""Pictures of right and wrong: a confusion matrix, and how the errors of two overlap."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from foldbench.bench import units
from foldbench.reports.figures.elements import drawing, element, number, short, text
from foldbench.reports.figures.figure import ReportFigure, classes_id
from foldbench.reports.rows.confusion import Overlap, confused_contender, confusion_of, overlaps
from foldbench.reports.text.document import Table, left, right
from foldbench.reports.text.labels import Labelled
from foldbench.reports.text.names import name_of

_SIDE = 440
_NUMBERED = 20
"""Classes up to which every cell shows its count; beyond, shades alone."""
_NAMED = 45
"""Classes up to which each row and column has its name."""
_NAME_ROOM = 84
_LONGEST = 14
"""Letters of a class name that are drawn; the table has all of it."""


def confusion_figure(labelled: Labelled) -> ReportFigure | None:
    """Return a matrix for each run, None where no run has labels."""
    panels, tables, raw = [], [], []
    for i, (label, run) in enumerate(labelled):
        counts = confusion_of(run)
        if counts is None:
            continue
        heading = f"{label}, {name_of(confused_contender(run) or '')}"
        panels.append(_matrix(f"confusion-{i}", heading, run.checkpoint.classes, counts))
        tables.append((label, run.checkpoint.classes, counts))
        raw.append((classes_id(i), f"classes given by {label}"))
    if not panels:
        return None
    return ReportFigure(
        identity="confusion",
        title="Confusion matrix",
        panels=tuple(panels),
        caption="Rows: the true class; columns: the class it was given. Shade: share of the true "
        "class; the diagonal is right.",
        table=_table(tables),
        raw=tuple(raw),
    )


def _table(
    found: Sequence[tuple[str, tuple[str, ...], npt.NDArray[np.int64]]],
) -> Table | None:
    """Return the counts of one run as a table; of several, they are in the embedded data."""
    if len(found) != 1:
        return None
    ((_, names, counts),) = found
    columns = (left("true class"), *(right(name) for name in names))
    rows = tuple(
        (name, *(units.count(int(value)) for value in row))
        for name, row in zip(names, counts, strict=True)
    )
    return Table(columns, rows)


def _matrix(
    identity: str, heading: str, names: tuple[str, ...], counts: npt.NDArray[np.int64]
) -> Markup:
    named = len(names) <= _NAMED
    room = _NAME_ROOM if named else 8
    cell = (_SIDE - room - 4) / len(names)
    left_edge, top = room, 26 + (room - 16 if named else 6)
    marks = [text(short(heading, 56), 0, 14, "heading")]
    totals = counts.sum(1)
    for i, name in enumerate(names):
        if named:
            at = i * cell + cell / 2
            marks.append(text(short(name, _LONGEST), left_edge - 6, top + at + 4, "tick", "end"))
            x, y = left_edge + at + 4, top - 6
            turned = f"rotate(-60 {number(x)} {number(y)})"
            marks.append(text(short(name, _LONGEST), x, y, "tick", transform=turned))
        for j in range(len(names)):
            place = (left_edge + j * cell, top + i * cell, cell)
            marks += _cell(place, int(counts[i, j]), int(totals[i]), i == j, len(names))
    right_ones, all_ones = int(np.trace(counts)), int(counts.sum())
    described = f"{units.count(right_ones)} of {units.count(all_ones)} images on the diagonal."
    return drawing(
        identity,
        _SIDE,
        top + cell * len(names) + 8,
        f"Confusion matrix of {heading}",
        described,
        *marks,
    )


def _cell(
    place: tuple[float, float, float], count: int, total: int, right_one: bool, classes: int
) -> list[Markup]:
    x, y, side = place
    share = count / total if total else 0.0
    shade = element(
        "rect",
        x=x,
        y=y,
        width=side - 0.6,
        height=side - 0.6,
        class_="right" if right_one else "wrong",
        fill_opacity=str(round(share**0.5, 2)) if share else "0",
    )
    if classes > _NUMBERED or not count:
        return [shade]
    style = "count strong" if share > 0.35 else "count"
    return [shade, text(units.plain(count), x + side / 2, y + side / 2 + 3.5, style, "middle")]


def overlap_figure(labelled: Labelled) -> ReportFigure | None:
    """Return a bar for each pair, None where there is no pair."""
    found = tuple(overlaps(labelled))
    if not found:
        return None
    return ReportFigure(
        identity="overlap",
        title="Prediction overlap",
        panels=(_bars(found),),
        caption="Each bar is all test images. From the left: those that both get right, only A, "
        "only B, and neither.",
        table=None,
    )


def _bars(found: Sequence[Overlap]) -> Markup:
    marks, described = [], []
    for i, pair in enumerate(found):
        top = 8 + i * 58
        marks.append(text(short(f"A {pair.a}, B {pair.b}", 66), 0, top + 12, "label"))
        counts = pair.counts
        parts = (
            (counts.both_right, "both"),
            (counts.only_a_right, "only-a"),
            (counts.only_b_right, "only-b"),
            (counts.both_wrong, "neither"),
        )
        x = 0.0
        for count, style in parts:
            width = _SIDE * count / counts.images
            if count:
                marks.append(
                    element("rect", x=x, y=top + 20, width=width, height=14, class_=f"part {style}")
                )
            x += width
        label = (
            f"right: both {units.count(counts.both_right)}, "
            f"only A {units.count(counts.only_a_right)}, "
            f"only B {units.count(counts.only_b_right)}, "
            f"neither {units.count(counts.both_wrong)}"
        )
        marks.append(text(label, 0, top + 48, "note"))
        described.append(f"A {pair.a}, B {pair.b}, {label}")
    title, height = "Prediction overlap", 8 + 58 * len(found)
    return drawing("overlap-0", _SIDE, height, title, f"{'; '.join(described)}.", *marks)

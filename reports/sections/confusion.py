"""What contenders take for what, and which images two of them get wrong: from labels and classes.

Both are in the record of a comparison; a run that was stored without labels has neither.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from foldbench.bench.analysis.error_overlap import (
    ContingencyTable,
    cross_tabulate,
    describe_other_images,
)
from foldbench.bench.analysis.speedups import scored
from foldbench.bench.records import Run
from foldbench.reports.text import units
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in, labelled_rows

_MOST = 8
"""Confusions that are listed of each run."""


@dataclass(frozen=True)
class Overlap:
    """Which of two contenders, or of two runs by the rows that stand for them, is right."""

    a: str
    b: str
    counts: ContingencyTable


def predictions(run: Run) -> dict[str, npt.NDArray[np.int64]]:
    """Return the predicted classes (images,) by contender, of those that have one per label.

    The first one's stand for the run.
    """
    if not run.labels or not _are_classes(run, run.labels):
        return {}
    return {
        m.contender: np.asarray(m.accuracy.top1, np.int64)
        for m in scored(run)
        if m.accuracy and len(m.accuracy.top1) == len(run.labels)
        if _are_classes(run, m.accuracy.top1)
    }


def _are_classes(run: Run, indices: Sequence[int]) -> bool:
    return min(indices) >= 0 and max(indices) < len(run.checkpoint.classes)


def confusion_of(run: Run, contender: str | None = None) -> npt.NDArray[np.int64] | None:
    """Return (classes, classes) counts, the true class along rows; None without labels.

    Of the contender that stands for the run, unless one is named.
    """
    found = predictions(run)
    named = contender or next(iter(found), None)
    if named not in found or run.labels is None:
        return None
    size = len(run.checkpoint.classes)
    places = _labels(run) * size + found[named]
    return np.bincount(places, minlength=size * size).reshape(size, size)


def confused_contender(run: Run) -> str | None:
    """Return whose confusions `confusion_of` counts."""
    return next(iter(predictions(run)), None)


def overlaps(labelled: Labelled) -> Iterator[Overlap]:
    """Yield each pair worth a look: runs on the same images, and within a run those that differ.

    Two runs are held against each other by their references.
    """
    for label, run in labelled:
        found = predictions(run)
        first = confused_contender(run)
        for name, top1 in found.items():
            if first is not None and name != first and not np.array_equal(top1, found[first]):
                before = label_in(labelled, label, after=" ")
                counts = cross_tabulate(_labels(run), found[first], top1)
                yield Overlap(f"{before}{first}", f"{before}{name}", counts)
    for i, (label, run) in enumerate(labelled):
        for other_label, other in labelled[i + 1 :]:
            row, other_row = confused_contender(run), confused_contender(other)
            if row is None or other_row is None or describe_other_images(run, other):
                continue
            pair = predictions(run)[row], predictions(other)[other_row]
            yield Overlap(label, other_label, cross_tabulate(_labels(run), *pair))


def _labels(run: Run) -> npt.NDArray[np.int64]:
    return np.asarray(run.labels, np.int64)


def build_confusion(column: Column, labelled: Labelled) -> Iterator[ReportSection]:
    """Yield the sections; `column` heads the names of the runs where there are several."""
    rows = labelled_rows(labelled, lambda _, run: _worst(run))
    columns = (column, left("shown"), left("taken for"), right("images"), right("of that class"))
    whose = dict.fromkeys(filter(None, (confused_contender(run) for _, run in labelled)))
    table = tabulated(columns, rows)
    yield ReportSection(
        "Most frequent confusions",
        table=table,
        caption=f"By {' and '.join(whose)}; of that class: all test images of it." if table else "",
        detail=True,
        key="confusion",
    )
    yield _overlap_section(tuple(overlaps(labelled)))


def _worst(run: Run) -> list[list[str]]:
    counts = confusion_of(run)
    if counts is None:
        return []
    names, totals = run.checkpoint.classes, counts.sum(1)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST]
    places = [divmod(int(place), len(names)) for place in order]
    return [
        [names[i], names[j], units.count(int(wrong[i, j])), units.count(int(totals[i]))]
        for i, j in places
        if wrong[i, j]
    ]


def _overlap_section(found: Sequence[Overlap]) -> ReportSection:
    columns = (
        left("A"),
        left("B"),
        right("both right"),
        right("only A right"),
        right("only B right"),
        right("both wrong"),
        right("p"),
    )
    rows = [
        [
            pair.a,
            pair.b,
            *map(units.count, astuple(pair.counts)),
            units.probability(pair.counts.p_value),
        ]
        for pair in found
    ]
    return ReportSection(
        "Prediction overlap",
        table=tabulated(columns, rows),
        caption="Test images by who gets them right; p: McNemar's exact test, how likely a "
        "difference this large is if both are equally good."
        if rows
        else "",
        detail=True,
        key="overlap",
    )

"""What contenders take for what, and which images two of them get wrong: from stored labels.

A run that was stored without labels has neither."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foldbench.bench.analysis.error_overlap import (
    ContingencyTable,
    cross_tabulate,
    describe_other_images,
)
from foldbench.bench.analysis.speedups import scored
from foldbench.bench.records import Run
from foldbench.reports.text.labels import Labelled, label_in


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

"""What contenders take for what, and which images two of them get wrong: from labels and classes.

Both are in the record of a comparison; a run that was stored without labels has neither.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.records import Run
from bench.speedups import contenders
from bench.statistics import mcnemar
from reports import units
from reports.document import Column, Section, left, right, tabulated

Labelled = Sequence[tuple[str, Run]]

_MOST = 8
"""Confusions that are listed of each run."""


@dataclass(frozen=True)
class Overlap:
    """How many images each of two contenders gets right, on the same images."""

    a: str
    b: str
    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test: how likely they are so far apart by chance if equally good."""
        return mcnemar(self.only_a_right, self.only_b_right)

    @property
    def images(self) -> int:
        """All of them."""
        return self.both_right + self.only_a_right + self.only_b_right + self.both_wrong


def predictions(run: Run) -> dict[str, npt.NDArray[np.int64]]:
    """Return the predicted classes (images,) by contender, of those that have one per label."""
    if not run.labels or run.checkpoint.random_weights or not _are_classes(run, run.labels):
        return {}
    return {
        m.contender: np.asarray(m.accuracy.top1, np.int64)
        for m in contenders(run)
        if m.status == "ok" and m.accuracy and len(m.accuracy.top1) == len(run.labels)
        if _are_classes(run, m.accuracy.top1)
    }


def _are_classes(run: Run, indices: Sequence[int]) -> bool:
    return min(indices) >= 0 and max(indices) < len(run.checkpoint.classes)


def confusion_of(run: Run, contender: str | None = None) -> npt.NDArray[np.int64] | None:
    """Return (classes, classes) counts, the true class along rows; None without labels.

    Of the run's reference, or the first contender where that was not scored, unless one is named.
    """
    found = predictions(run)
    named = contender or (run.reference if run.reference in found else next(iter(found), None))
    if named not in found or run.labels is None:
        return None
    size = len(run.checkpoint.classes)
    places = np.asarray(run.labels, np.int64) * size + found[named]
    return np.bincount(places, minlength=size * size).reshape(size, size)


def confused_contender(run: Run) -> str | None:
    """Return whose confusions `confusion_of` counts."""
    found = predictions(run)
    return run.reference if run.reference in found else next(iter(found), None)


def overlaps(labelled: Labelled) -> Iterator[Overlap]:
    """Yield each pair worth a look: runs on the same images, and within a run those that differ.

    Two runs are held against each other by their references.
    """
    for label, run in labelled:
        found = predictions(run)
        first = confused_contender(run)
        for name, top1 in found.items():
            if first is not None and name != first and not np.array_equal(top1, found[first]):
                before = f"{label} " if len(labelled) > 1 else ""
                yield _overlap(run, f"{before}{first}", found[first], f"{before}{name}", top1)
    for i, (label, run) in enumerate(labelled):
        for other_label, other in labelled[i + 1 :]:
            ours, theirs = confused_contender(run), confused_contender(other)
            if _same_images(run, other) and ours is not None and theirs is not None:
                pair = predictions(run)[ours], predictions(other)[theirs]
                yield _overlap(run, label, pair[0], other_label, pair[1])


def _same_images(a: Run, b: Run) -> bool:
    """Return whether two runs were scored on the same images, however prepared, in one order."""
    files = a.data.test_files_sha256, b.data.test_files_sha256
    same = a.evaluation_sha256 == b.evaluation_sha256 or (files[0] == files[1] is not None)
    return same and a.labels == b.labels and a.checkpoint.classes == b.checkpoint.classes


def _overlap(
    run: Run, a: str, a_top1: npt.NDArray[np.int64], b: str, b_top1: npt.NDArray[np.int64]
) -> Overlap:
    labels = np.asarray(run.labels, np.int64)
    a_right, b_right = a_top1 == labels, b_top1 == labels
    return Overlap(
        a,
        b,
        both_right=int((a_right & b_right).sum()),
        only_a_right=int((a_right & ~b_right).sum()),
        only_b_right=int((~a_right & b_right).sum()),
        both_wrong=int((~a_right & ~b_right).sum()),
    )


def build_confusion(column: Column, labelled: Labelled) -> Iterator[Section]:
    """Yield the sections; `column` heads the names of the runs where there are several."""
    rows = [
        [label if len(labelled) > 1 else "", *cells]
        for label, run in labelled
        for cells in _worst(run)
    ]
    columns = (column, left("shown"), left("taken for"), right("images"), right("of that class"))
    whose = dict.fromkeys(filter(None, (confused_contender(run) for _, run in labelled)))
    table = tabulated(columns, rows)
    yield Section(
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


def _overlap_section(found: Sequence[Overlap]) -> Section:
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
            units.count(pair.both_right),
            units.count(pair.only_a_right),
            units.count(pair.only_b_right),
            units.count(pair.both_wrong),
            units.probability(pair.p_value),
        ]
        for pair in found
    ]
    return Section(
        "Which images are wrong",
        table=tabulated(columns, rows),
        caption="Test images by who gets them right; p: McNemar's exact test, how likely a "
        "difference this large is if both are equally good."
        if rows
        else "",
        detail=True,
        key="overlap",
    )

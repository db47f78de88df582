"""Which test images two networks get wrong: one of them, the other, or both (problem 5).

Two runs can be compared when they were scored on the same test images in the same order; how the
images were prepared for each network may differ.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.errors import RunError
from bench.records import Accuracy, Run
from bench.speedups import scored
from bench.statistics import mcnemar

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassErrors:
    """Wrong answers on the images of one class."""

    class_name: str
    images: int
    only_a: int
    only_b: int
    both: int

    @property
    def a_wrong(self) -> int:
        """Images of the class that A gets wrong."""
        return self.only_a + self.both

    @property
    def b_wrong(self) -> int:
        """Images of the class that B gets wrong."""
        return self.only_b + self.both


@dataclass(frozen=True)
class Confusion:
    """How often a network takes one class for another."""

    class_name: str
    taken_for: str
    a: int
    b: int


@dataclass(frozen=True)
class ErrorOverlap:
    """Both networks' errors on the same images."""

    contender_a: str
    contender_b: str
    images: int
    only_a: int
    only_b: int
    both: int
    both_alike: int
    """Of `both`, where they give the same wrong answer."""
    p_value: float
    """McNemar's exact test: how likely the two are so far apart by chance if equally good."""
    classes: tuple[ClassErrors, ...]
    """Every class, the one with most errors of either first."""
    confusions: tuple[Confusion, ...]
    """Every pair that occurs, most frequent first."""
    disagreements: tuple[int, ...]
    """Rows of the test split on which just one of them is wrong."""


def representative(run: Run) -> tuple[str, Accuracy]:
    """Return the contender whose answers stand for the run, and what it said.

    It is the reference, or the first that ran where the reference did not. Raises RunError when
    nothing was scored, or with random weights, whose answers mean nothing.
    """
    if run.checkpoint.random_weights:
        raise RunError(f"{run.name} has random weights: its errors mean nothing; name another run")
    first = next(iter(scored(run)), None)
    if first is None or first.accuracy is None:
        raise RunError(f"no contender of {run.name} was scored: bench compare {run.name}")
    return first.contender, first.accuracy


def require_same_test_images(a: Run, b: Run) -> None:
    """Raise RunError that names both unless they were scored on the same images, in one order."""
    if a.checkpoint.classes != b.checkpoint.classes:
        shown = [", ".join(run.checkpoint.classes[:3]) for run in (a, b)]
        counts = [len(run.checkpoint.classes) for run in (a, b)]
        what = f"classes differ ({counts[0]} in A: {shown[0]}, …; {counts[1]} in B: {shown[1]}, …)"
        raise _different(a, b, what)
    same_pixels = a.evaluation_sha256 == b.evaluation_sha256
    names = (a.data.test_files_sha256, b.data.test_files_sha256)
    if not same_pixels and (None in names or names[0] != names[1]):
        raise _different(a, b, f"{a.data.title} in A, {b.data.title} in B")


def _different(a: Run, b: Run, what: str) -> RunError:
    shown = (a.evaluation_sha256[:12], b.evaluation_sha256[:12])
    return RunError(
        f"{a.name} (A) and {b.name} (B) were scored on different test splits: {what}; sha256 "
        f"{shown[0]}… ({a.evaluation_protocol}) and {shown[1]}… ({b.evaluation_protocol}): "
        "compare both on the same data with the same settings (bench compare)"
    )


def compare_errors(a: Run, b: Run, labels: Integers) -> ErrorOverlap:
    """Return the errors of two runs on the test images with these true `labels` (N,).

    Raises RunError when the runs were not scored on the same images, or the labels are not theirs.
    """
    require_same_test_images(a, b)
    (name_a, said_a), (name_b, said_b) = representative(a), representative(b)
    answers_a, answers_b = np.array(said_a.top1), np.array(said_b.top1)
    for run, said, answers in ((a, said_a, answers_a), (b, said_b, answers_b)):
        if len(answers) != len(labels) or int((answers == labels).sum()) != said.correct:
            raise RunError(
                f"the labels at hand are not those that {run.name} was scored on: give the data "
                "it was compared on with --data"
            )
    a_wrong, b_wrong = answers_a != labels, answers_b != labels
    only_a, only_b, both = a_wrong & ~b_wrong, b_wrong & ~a_wrong, a_wrong & b_wrong
    return ErrorOverlap(
        contender_a=name_a,
        contender_b=name_b,
        images=len(labels),
        only_a=int(only_a.sum()),
        only_b=int(only_b.sum()),
        both=int(both.sum()),
        both_alike=int((both & (answers_a == answers_b)).sum()),
        p_value=mcnemar(int(only_a.sum()), int(only_b.sum())),
        classes=_by_class(a.checkpoint.classes, labels, only_a, only_b, both),
        confusions=_confusions(a.checkpoint.classes, labels, answers_a, answers_b),
        disagreements=tuple(np.flatnonzero(only_a | only_b).tolist()),
    )


def _by_class(
    names: tuple[str, ...],
    labels: Integers,
    only_a: npt.NDArray[np.bool_],
    only_b: npt.NDArray[np.bool_],
    both: npt.NDArray[np.bool_],
) -> tuple[ClassErrors, ...]:
    counted = [
        ClassErrors(
            name,
            int((labels == index).sum()),
            *(int(part[labels == index].sum()) for part in (only_a, only_b, both)),
        )
        for index, name in enumerate(names)
    ]
    return tuple(sorted(counted, key=lambda c: (-(c.only_a + c.only_b + c.both), c.class_name)))


def _confusions(
    names: tuple[str, ...], labels: Integers, answers_a: Integers, answers_b: Integers
) -> tuple[Confusion, ...]:
    counts = [
        Counter(zip(labels.tolist(), x.tolist(), strict=True)) for x in (answers_a, answers_b)
    ]
    pairs = {pair for count in counts for pair in count if pair[0] != pair[1]}
    found = [Confusion(names[t], names[p], counts[0][t, p], counts[1][t, p]) for t, p in pairs]
    return tuple(sorted(found, key=lambda c: (-(c.a + c.b), c.class_name, c.taken_for)))

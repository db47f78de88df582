"""Which test images two networks get wrong: one of them, the other, or both (problem 5).

Two runs can be compared when they were scored on the same test images in the same order; how the
images were prepared for each network may differ.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from foldbench.bench.analysis.estimates import mcnemar
from foldbench.bench.analysis.speedups import scored
from foldbench.bench.arrays import Labels
from foldbench.bench.errors import RunError
from foldbench.bench.records import Accuracy, Run


@dataclass(frozen=True)
class ContingencyTable:
    """How many images each of two networks gets right, on the same images."""

    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int

    @property
    def images(self) -> int:
        """All of them."""
        return self.both_right + self.only_a_right + self.only_b_right + self.both_wrong

    @property
    def p_value(self) -> float:
        """McNemar's exact test: how likely they are so far apart by chance if equally good."""
        return mcnemar(self.only_a_right, self.only_b_right)


def cross_tabulate(labels: Labels, answers_a: Labels, answers_b: Labels) -> ContingencyTable:
    """Return the table of two networks' answers to the same images, all (images,)."""
    a_right, b_right = answers_a == labels, answers_b == labels
    return ContingencyTable(
        both_right=int((a_right & b_right).sum()),
        only_a_right=int((a_right & ~b_right).sum()),
        only_b_right=int((~a_right & b_right).sum()),
        both_wrong=int((~a_right & ~b_right).sum()),
    )


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
    """Return the contender that represents the run, and its accuracy.

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
    different = describe_other_images(a, b)
    if different is not None:
        shown = (a.evaluation_sha256[:12], b.evaluation_sha256[:12])
        raise RunError(
            f"{a.name} (A) and {b.name} (B) were scored on different test splits: {different}; "
            f"sha256 {shown[0]}… ({a.evaluation_protocol}) and {shown[1]}… "
            f"({b.evaluation_protocol}): compare both on the same data with the same settings "
            "(bench compare)"
        )


def describe_other_images(a: Run, b: Run) -> str | None:
    """Return in what the test images of two runs differ; None for the same ones in one order.

    How they were prepared may differ.
    """
    if a.checkpoint.classes != b.checkpoint.classes:
        shown = [", ".join(run.checkpoint.classes[:3]) for run in (a, b)]
        counts = [len(run.checkpoint.classes) for run in (a, b)]
        return f"classes differ ({counts[0]} in A: {shown[0]}, …; {counts[1]} in B: {shown[1]}, …)"
    same_pixels = a.evaluation_sha256 == b.evaluation_sha256
    names = (a.data.test_files_sha256, b.data.test_files_sha256)
    if not same_pixels and (None in names or names[0] != names[1]):
        return f"{a.data.title} in A, {b.data.title} in B"
    if None not in (a.labels, b.labels) and a.labels != b.labels:
        return "their labels differ"
    return None


def compare_errors(a: Run, b: Run, labels: Labels) -> ErrorOverlap:
    """Return the errors of two runs on the test images with these true `labels` (N,).

    Raises RunError when the runs were not scored on the same images, or the labels are not theirs.
    """
    require_same_test_images(a, b)
    (name_a, accuracy_a), (name_b, accuracy_b) = representative(a), representative(b)
    answers_a, answers_b = np.array(accuracy_a.top1), np.array(accuracy_b.top1)
    for run, accuracy, answers in ((a, accuracy_a, answers_a), (b, accuracy_b, answers_b)):
        if len(answers) != len(labels) or int((answers == labels).sum()) != accuracy.correct:
            raise RunError(
                f"the labels at hand are not those that {run.name} was scored on: give the data "
                "it was compared on with --data"
            )
    table = cross_tabulate(labels, answers_a, answers_b)
    one_wrong = (answers_a != labels) ^ (answers_b != labels)
    return ErrorOverlap(
        contender_a=name_a,
        contender_b=name_b,
        images=table.images,
        only_a=table.only_b_right,
        only_b=table.only_a_right,
        both=table.both_wrong,
        both_alike=int(((answers_a == answers_b) & (answers_a != labels)).sum()),
        p_value=table.p_value,
        classes=_by_class(a.checkpoint.classes, labels, answers_a, answers_b),
        confusions=_confusions(a.checkpoint.classes, labels, answers_a, answers_b),
        disagreements=tuple(np.flatnonzero(one_wrong).tolist()),
    )


def _by_class(
    names: tuple[str, ...], labels: Labels, answers_a: Labels, answers_b: Labels
) -> tuple[ClassErrors, ...]:
    counted = []
    for index, name in enumerate(names):
        own = labels == index
        table = cross_tabulate(labels[own], answers_a[own], answers_b[own])
        wrong = table.only_b_right, table.only_a_right, table.both_wrong
        counted.append(ClassErrors(name, table.images, *wrong))
    return tuple(sorted(counted, key=lambda c: (-(c.only_a + c.only_b + c.both), c.class_name)))


def _confusions(
    names: tuple[str, ...], labels: Labels, answers_a: Labels, answers_b: Labels
) -> tuple[Confusion, ...]:
    counts = [
        Counter(zip(labels.tolist(), x.tolist(), strict=True)) for x in (answers_a, answers_b)
    ]
    pairs = {pair for count in counts for pair in count if pair[0] != pair[1]}
    found = [Confusion(names[t], names[p], counts[0][t, p], counts[1][t, p]) for t, p in pairs]
    return tuple(sorted(found, key=lambda c: (-(c.a + c.b), c.class_name, c.taken_for)))

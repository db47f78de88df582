"""Whether one way of answering is far better than another on the same images."""

from dataclasses import dataclass

import numpy as np

from foldbench.bench.arrays import Labels

_LEAST_GAIN = 0.05
_LEVEL = 1e-4
"""Several ways are tried on the same images."""
_LEAST_IMAGES = 20
_MOST_CLASSES = 5000
"""More are not looked at: the assignment would take minutes."""


def is_far_better(gained: int, lost: int, images: int) -> bool:
    """Return whether `gained` more right and `lost` fewer is far better, and not by chance.

    That is a gain of five points or more, and a p-value of McNemar's exact test below 0.0001.
    """
    from scipy.stats import binomtest

    if gained - lost < _LEAST_GAIN * images:
        return False
    return bool(binomtest(gained, gained + lost, alternative="greater").pvalue < _LEVEL)


@dataclass(frozen=True)
class BetterOrder:
    """Another order of the classes that does far better than the stated one."""

    images: int
    stated_correct: int
    correct: int
    """With the best order, found on the other half of the images each time."""
    moved: tuple[tuple[int, int], ...]
    """Pairs (class of the images, class that the network has in its place), most images first."""


def find_better_order(labels: Labels, answers: Labels, classes: int) -> BetterOrder | None:
    """Return the order of classes that does far better than the stated one; None without one.

    `labels` and `answers` are (N,). The best order is found on one half of the images and judged on
    the other, both ways around, so that it cannot fit chance.
    """
    if len(labels) < _LEAST_IMAGES or not 2 <= classes <= _MOST_CLASSES:
        return None
    half = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    right = np.zeros(len(labels), bool)
    for fitted in (half, ~half):
        order = _best_order(labels[fitted], answers[fitted], classes)
        right[~fitted] = order[labels[~fitted]] == answers[~fitted]
    stated = answers == labels
    if not is_far_better(int((right & ~stated).sum()), int((~right & stated).sum()), len(labels)):
        return None
    order = _best_order(labels, answers, classes)
    counts = np.bincount(labels, minlength=classes)
    moved = [n for n in np.argsort(-counts, kind="stable") if counts[n] and order[n] != n]
    return BetterOrder(
        images=len(labels),
        stated_correct=int(stated.sum()),
        correct=int(right.sum()),
        moved=tuple((int(n), int(order[n])) for n in moved),
    )


def _best_order(labels: Labels, answers: Labels, classes: int) -> Labels:
    """Return for each class of the images the network's class that most of them are given."""
    from scipy.optimize import linear_sum_assignment

    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    # Between equals, the stated order.
    rows, columns = linear_sum_assignment(2 * confusion + np.eye(classes, dtype=np.int64), True)
    order = np.empty(classes, np.int64)
    order[rows] = columns
    return order

"""Which images serve for what: held out while training, evaluated, or used as proof."""

import numpy as np

from foldbench.bench import units
from foldbench.bench.arrays import Labels, Rows
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import Split


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split | None]:
    """Split the training images by class; nothing is held out when `fraction` is 0."""
    if fraction == 0:
        return split, None
    kept, held = draw_held_out(split.require_labels(), fraction, seed)
    return split.take(kept), split.take(held)


def draw_held_out(labels: Labels, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Return the rows to train on and the rows held out, `fraction` of each class.

    Raises DataError when there are too few images for that.
    """
    from sklearn.model_selection import train_test_split

    try:
        kept, held = train_test_split(
            np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise DataError(
            f"cannot hold out {units.plain(fraction)} of {len(labels)} training images: {error}: "
            "set train.validation_fraction to 0 or give more images"
        ) from error
    return kept, held


def draw_subset(split: Split, count: int | None, seed: int) -> Split:
    """Return `count` images drawn at random without replacement; all of them for None.

    Raises DataError when there are fewer.
    """
    if count is None:
        return split
    if count > len(split):
        raise DataError(
            f"data.subset is {units.count(count)}, but there are "
            f"{units.count(len(split))} images to train on: "
            "give a smaller number, or leave it out to train on all of them"
        )
    chosen = np.random.default_rng(seed).permutation(len(split))[:count]
    return split.take(chosen)


def draw_apart(split: Split, count: int, held_out: int, seed: int) -> tuple[Split, Split]:
    """Return `count` images to train on and `held_out` others to validate on, drawn at random.

    Raises DataError when there are fewer.
    """
    total = len(split)
    if count + held_out > total:
        raise DataError(
            f"{units.count(count)} images to train on and {units.count(held_out)} others to "
            "validate on are more than "
            f"the {units.count(total)} training images: give smaller numbers with --images and "
            "--validation"
        )
    order = np.random.default_rng(seed).permutation(total)
    kept, held = order[:count], order[count : count + held_out]
    return split.take(kept), split.take(held)


def spread(count: int, wanted: int) -> Rows:
    """Return at most `wanted` indices spread evenly over `count` images, so over all classes."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))


def draw_stratified(labels: Labels | None, total: int, count: int, seed: int) -> Rows:
    """Return `count` of `total` rows in order, drawn at random, as many of each class as its share.

    Without labels it is a random sample. Raises DataError when there are fewer.
    """
    if count > total:
        raise DataError(
            f"data.test_subset is {units.count(count)}, but there are {units.count(total)} test "
            "images: give a smaller number, or leave it out to measure on all of them"
        )
    order = np.random.default_rng(seed).permutation(total)
    if labels is None:
        return np.sort(order[:count])
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * count / total
    taken = np.floor(exact).astype(np.int64)
    rest = np.argsort(taken - exact, kind="stable")[: count - int(taken.sum())]
    taken[rest] += 1
    shuffled = labels[order]
    chosen = [order[shuffled == label][:many] for label, many in zip(classes, taken, strict=True)]
    return np.sort(np.concatenate(chosen))

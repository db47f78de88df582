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
    kept, held = draw_held_out(split.labels, fraction, seed)
    return (
        Split(split.images[kept], split.labels[kept]),
        Split(split.images[held], split.labels[held]),
    )


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
    if count > len(split.labels):
        raise DataError(
            f"data.subset is {units.count(count)}, but there are "
            f"{units.count(len(split.labels))} images to train on: "
            "give a smaller number, or leave it out to train on all of them"
        )
    chosen = np.random.default_rng(seed).permutation(len(split.labels))[:count]
    return Split(split.images[chosen], split.labels[chosen])


def draw_apart(split: Split, count: int, held_out: int, seed: int) -> tuple[Split, Split]:
    """Return `count` images to train on and `held_out` others to validate on, drawn at random.

    Raises DataError when there are fewer.
    """
    total = len(split.labels)
    if count + held_out > total:
        raise DataError(
            f"{units.count(count)} images to train on and {units.count(held_out)} others to "
            "validate on are more than "
            f"the {units.count(total)} training images: give smaller numbers with --images and "
            "--validation"
        )
    order = np.random.default_rng(seed).permutation(total)
    kept, held = order[:count], order[count : count + held_out]
    return (
        Split(split.images[kept], split.labels[kept]),
        Split(split.images[held], split.labels[held]),
    )


def spread(count: int, wanted: int) -> Rows:
    """Return at most `wanted` indices spread evenly over `count` images, so over all classes."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))

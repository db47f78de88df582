"""Which images serve for what: held out while training, evaluated, or used as proof."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from foldbench.bench.config.schema import EvaluateSection
from foldbench.bench.datasets import Split
from foldbench.bench.errors import DataError, RunError
from foldbench.bench.measure.comparison import Evaluation
from foldbench.bench.store.temporary import temporary_folder


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split | None]:
    """Split the training images by class; nothing is held out when `fraction` is 0."""
    if fraction == 0:
        return split, None
    kept, held = draw_held_out(split.labels, fraction, seed)
    return (
        Split(split.images[kept], split.labels[kept]),
        Split(split.images[held], split.labels[held]),
    )


def draw_held_out(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
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
            f"cannot hold out {fraction:g} of {len(labels)} training images: {error}: "
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
            f"data.subset is {count:,}, but there are {len(split.labels):,} images to train on: "
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
            f"{count:,} images to train on and {held_out:,} others to validate on are more than "
            f"the {total:,} training images: give smaller numbers with --images and --validation"
        )
    order = np.random.default_rng(seed).permutation(total)
    kept, held = order[:count], order[count : count + held_out]
    return (
        Split(split.images[kept], split.labels[kept]),
        Split(split.images[held], split.labels[held]),
    )


def spread(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """Return at most `wanted` indices spread evenly over `count` images, so over all classes."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))


@contextmanager
def prepare_evaluation(settings: EvaluateSection, test: Split) -> Iterator[tuple[Evaluation, str]]:
    """Yield the test split as the evaluation protocol wants it, as a file, and its sha256.

    With ``mirror``, all mirror images come after all images.
    """
    images = test.images
    if settings.protocol == "homework":
        import torch

        from foldbench.models.training.augment import flip_and_crop

        images = flip_and_crop(
            torch.tensor(images),
            flip=True,
            crop_padding=4,
            generator=torch.Generator().manual_seed(settings.seed),
        ).numpy()
    if settings.mirror:
        images = np.concatenate([images, images[..., ::-1]])
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(images.data)
    digest.update(np.ascontiguousarray(test.labels).data)
    with temporary_folder() as folder:
        path = folder / "images.npy"
        try:
            np.save(path, images, allow_pickle=False)
        except OSError as error:
            raise RunError(
                f"cannot write the {images.nbytes:,} bytes of test images to {folder}: {error}: "
                "free space there, or name another place with TMPDIR"
            ) from error
        evaluation = Evaluation(settings.protocol, path, test.labels, settings.batch_size)
        yield evaluation, digest.hexdigest()

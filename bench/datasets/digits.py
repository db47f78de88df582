"""Handwritten digits that come with scikit-learn: 1,797 tiny images, nothing to download.

The 8x8 grey images are scaled smoothly to the asked size and repeated in three channels. The split
is fixed: of every class, a fifth chosen by a fixed seed is the test split. Good for a first run in
seconds; its accuracy says nothing about CIFAR-10.
"""

from functools import lru_cache
from time import perf_counter

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from foldbench.bench.arrays import Labels
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet, Split, make_image_set

_BRIGHTEST = 16.0  # scikit-learn's pixels are 0..16
_TEST_SHARE = 0.2


def load(options: DataOptions) -> ImageSet:
    """Return the digits at `options.image_size`; nothing is downloaded or kept on disk.

    Raises DataError when a path is given, because there is nothing to be read from it.
    """
    started = perf_counter()
    if options.path is not None:
        raise DataError(
            f"digits come with scikit-learn and cannot be read from {options.path}: leave out "
            "--data (data.path), or use --set data.name=imagefolder for images of your own"
        )
    options.refuse_other_channels()
    channels, tall, wide = options.shape
    grey, labels = _read(tall, wide)
    images = np.repeat(grey[:, None], channels, axis=1)
    for_test = _test_rows(labels)
    train = Split(images[~for_test], labels[~for_test])
    test = Split(images[for_test], labels[for_test])
    return make_image_set(
        train,
        test,
        name="digits",
        title=f"handwritten digits (scikit-learn), 8x8 scaled to {tall}x{wide}",
        path=None,
        classes=map(str, range(10)),
        original=True,
        started=started,
    )


@lru_cache(maxsize=1)  # training, export and comparison of `bench run` read the same
def _read(tall: int, wide: int) -> tuple[npt.NDArray[np.uint8], Labels]:
    """Return all digits as (n, tall, wide) in grey, with their labels."""
    source = load_digits()
    grey = np.rint(source.images * (255 / _BRIGHTEST)).astype(np.uint8)
    resized = (
        Image.fromarray(image).resize((wide, tall), Image.Resampling.BICUBIC) for image in grey
    )
    return np.stack([np.asarray(image) for image in resized]), np.asarray(source.target, np.int64)


def _test_rows(labels: Labels) -> npt.NDArray[np.bool_]:
    """Return True for the same fifth of every class each time."""
    # RandomState and not default_rng: numpy promises that its numbers never change.
    random = np.random.RandomState(0)
    chosen = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        chosen[rows[: round(len(rows) * _TEST_SHARE)]] = True
    return chosen

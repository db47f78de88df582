"""Handwritten digits that come with scikit-learn: 1,797 tiny images, nothing to download.

The 8x8 grey images are scaled smoothly to the asked size and repeated in three channels. The split
is fixed: of every class, a fifth chosen by a fixed seed is the test split. Good for a first run in
seconds; its accuracy says nothing about CIFAR-10.
"""

from time import perf_counter

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from foldbench.bench.arrays import Labels, Pixels
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet, Split, make_image_set

_BRIGHTEST = 16.0  # scikit-learn's pixels are 0..16
_TEST_SHARE = 0.2


def load(options: DataOptions) -> ImageSet:
    """Return the digits at `options.image_size`; nothing is downloaded or cached.

    Raises DataError when a path is given, because there is nothing to be read from it.
    """
    started = perf_counter()
    if options.path is not None:
        raise DataError(
            f"digits come with scikit-learn and cannot be read from {options.path}: leave out "
            "--data (data.path), or use --set data.name=imagefolder for images of your own"
        )
    source = load_digits()
    options.refuse_other_channels()
    channels, tall, wide = options.shape
    images = np.stack([_scaled(image, channels, (tall, wide)) for image in source.images])
    labels = np.asarray(source.target, np.int64)
    for_test = _test_rows(labels)
    train = Split(images[~for_test], labels[~for_test])
    test = Split(images[for_test], labels[for_test])
    return make_image_set(
        train,
        test,
        name="digits",
        title=f"handwritten digits (scikit-learn), 8x8 scaled to {tall}x{wide}",
        path=None,
        classes=map(str, source.target_names),
        original=True,
        started=started,
    )


def _scaled(image: npt.NDArray[np.float64], channels: int, size: tuple[int, int]) -> Pixels:
    """Return an (8, 8) `image` of 0..16 as (channels, *size) uint8."""
    grey = Image.fromarray(np.rint(image * (255 / _BRIGHTEST)).astype(np.uint8))
    scaled = np.asarray(grey.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return np.repeat(scaled[None], channels, axis=0)


def _test_rows(labels: Labels) -> npt.NDArray[np.bool_]:
    """Return True for the same fifth of every class each time."""
    # RandomState and not default_rng: numpy promises that its numbers never change.
    random = np.random.RandomState(0)
    chosen = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        chosen[rows[: round(len(rows) * _TEST_SHARE)]] = True
    return chosen

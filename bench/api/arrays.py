"""Images and labels of the user's program as arrays of numpy's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from foldbench.bench.arrays import Images, Labels
from foldbench.bench.errors import DataError


def to_images(given: Any) -> Images:
    """Return images as (N, C, H, W), float32 or uint8.

    `given` is an array or a tensor on any device. Raises DataError for one of another form.
    """
    images = _to_numpy(given, "images")
    if images.ndim != 4 or images.dtype not in (np.float32, np.uint8) or not images.size:
        raise DataError(
            f"images: found {images.dtype} {images.shape}; allowed: (N, C, H, W), as float32 for "
            "the network's input as it is, or as uint8 for pixels"
        )
    if images.dtype == np.float32 and not np.isfinite(images).all():
        raise DataError("images: some values are NaN or infinite: correct them")
    return images


def to_labels(given: Any, count: int) -> Labels:
    """Return the labels (N,) int64 of `count` images; raise DataError for any other."""
    labels = _to_numpy(given, "labels")
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(
            f"labels: found {labels.dtype} {labels.shape}; allowed: a whole number from 0 on for "
            f"each of the {count} images"
        )
    return labels.astype(np.int64)


def to_shape(given: Sequence[int]) -> tuple[int, int, int]:
    """Return (C, H, W); raise DataError for anything else."""
    shape = tuple(given)
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise DataError(f"input_shape: found {shape}; allowed: (channels, height, width)")
    return shape


def _to_numpy(given: Any, what: str) -> npt.NDArray[Any]:
    if hasattr(given, "detach"):  # a tensor of torch's
        given = given.detach().cpu()
        given = given.float() if given.dtype.is_floating_point else given
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what}: {type(given).__name__} is no array of numbers") from error

"""From uint8 pixels to the numbers that a network takes: all that a worker does with images."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def normalize(
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    mean: Sequence[float],
    std: Sequence[float],
) -> npt.NDArray[np.float32]:
    """Return ``(pixels / 255 - mean) / std``, (N, C, H, W) float32, C-contiguous.

    What is float32 already is the network's input as it is.
    """
    if pixels.dtype == np.float32:
        return np.ascontiguousarray(pixels, np.float32)
    centre = np.array(mean, np.float32)[:, None, None]
    scale = np.array(std, np.float32)[:, None, None]
    made = pixels.astype(np.float32, order="C")  # and changed in place: it may be a large one
    made /= np.float32(255)
    made -= centre
    made /= scale
    return made

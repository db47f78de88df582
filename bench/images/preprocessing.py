"""From uint8 images to the network's input, the same array for every backend."""

import numpy as np
import numpy.typing as npt

from foldbench.bench.images.normalization import normalize
from foldbench.bench.records import Preprocessing


def preprocess(
    pixels: npt.NDArray[np.uint8], preprocessing: Preprocessing
) -> npt.NDArray[np.float32]:
    """Return images (N, C, H, W) as the network's input, float32, C-contiguous."""
    return normalize(pixels, preprocessing.mean, preprocessing.std)

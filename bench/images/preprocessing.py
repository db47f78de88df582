"""From uint8 images to the network's input, the same array for every backend."""

import numpy as np

from foldbench.bench.arrays import Floats, Pixels
from foldbench.bench.records import Preprocessing


def preprocess(pixels: Pixels, preprocessing: Preprocessing) -> Floats:
    """Return ``(pixels / 255 - mean) / std``, (N, C, H, W) float32, C-contiguous."""
    mean = np.array(preprocessing.mean, np.float32)[:, None, None]
    std = np.array(preprocessing.std, np.float32)[:, None, None]
    return np.ascontiguousarray((pixels.astype(np.float32) / np.float32(255) - mean) / std)

"""From uint8 images to the network's input, the same array for every backend."""

from foldbench.bench.arrays import Floats, Images
from foldbench.bench.images.normalization import normalize
from foldbench.bench.records import Preprocessing


def preprocess(pixels: Images, preprocessing: Preprocessing) -> Floats:
    """Return images (N, C, H, W) as the network's input, float32, C-contiguous."""
    return normalize(pixels, preprocessing.mean, preprocessing.std)

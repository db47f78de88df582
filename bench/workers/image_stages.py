"""What happens to an image file before and after the network."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foldbench.bench.backends import Floats, Session
from foldbench.bench.images.normalization import normalize
from foldbench.bench.images.pixels import channels_first, fit, open_rgb, with_channels
from foldbench.bench.records import Preprocessing
from foldbench.bench.timing.loop import call
from foldbench.bench.timing.stages import Step


def read(path: Path) -> bytes:
    """Return what is in a file."""
    return path.read_bytes()


def steps_to_class(session: Session, preprocessing: Preprocessing) -> tuple[Step, ...]:
    """Return the stages, in the order of STAGES; the first takes a path."""
    channels, height, width = preprocessing.input_shape

    def decode(data: bytes) -> Image.Image:
        return with_channels(open_rgb(data, "the image")[0], channels)

    def resize(picture: Image.Image) -> Any:
        return channels_first(fit(picture, (height, width), preprocessing.resize))[None]

    def normalise(pixels: Any) -> Floats:
        return normalize(pixels, preprocessing.mean, preprocessing.std)

    def infer(x: Floats) -> Floats:
        return call(session, x)

    def softmax(logits: Floats) -> tuple[int, float]:
        shares = np.exp(logits[0] - logits[0].max())
        best = int(shares.argmax())
        return best, float(shares[best] / shares.sum())

    return read, decode, resize, normalise, infer, softmax


def steps_of_image_file(session: Session) -> tuple[Step, ...]:
    """Return the stages, in the order of STAGES_INSIDE, of a graph that takes (N, H, W, 3) uint8.

    It gives probabilities.
    """

    def decode(data: bytes) -> Any:
        return np.asarray(open_rgb(data, "the image")[0])

    def infer(image: Any) -> tuple[int, float]:
        shares = call(session, image[None])[0]
        best = int(shares.argmax())
        return best, float(shares[best])

    return read, decode, infer

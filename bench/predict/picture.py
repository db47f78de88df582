"""One image file as a picture, and as the input of a network."""

import stat
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from foldbench.bench.errors import DataError
from foldbench.bench.images.pixels import channels_first, fit, open_rgb, refuse_thin, with_channels
from foldbench.bench.images.sources import check_size, unreadable
from foldbench.bench.records import Preprocessing


def open_picture(path: Path) -> Image.Image:
    """Return the image file as RGB, upright, at its own size.

    Raises DataError for a file that is missing, huge, damaged or no image.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise DataError(f"{path} is a folder, pipe or device; allowed: one image file")
        check_size(str(path), status.st_size)
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        picture, _ = open_rgb(data, str(path))
    return picture


def fit_picture(
    picture: Image.Image, preprocessing: Preprocessing, origin: str
) -> npt.NDArray[np.uint8]:
    """Return a picture as (1, C, H, W) uint8, made to fit as the network was evaluated.

    Raises DataError that names `origin` for one that is too long and thin for that.
    """
    refuse_thin(picture.size, preprocessing.resize, origin)
    channels, *size = preprocessing.input_shape
    fitted = fit(with_channels(picture, channels), (size[0], size[1]), preprocessing.resize)
    return channels_first(fitted)[None]

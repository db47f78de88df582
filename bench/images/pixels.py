"""Pixels: from the bytes of an image file to an array of the size that a network takes."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import PIL
from PIL import Image, ImageOps

from foldbench.bench.arrays import Pixels
from foldbench.bench.errors import DataError, one_line
from foldbench.bench.images.image_set import COVER, ImageSize, sides_of
from foldbench.bench.machine.environment import usable_cores
from foldbench.bench.records import Resize

VERSION = f"2, pillow {PIL.__version__}"
"""Changes whenever the same file may give other pixels."""

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    *(".jpe", ".jif", ".jfif", ".jfi", ".pjpeg", ".pjp"),
    *(".gif", ".tif", ".tiff", ".ppm", ".pgm"),
)

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def read(
    data: bytes, size: ImageSize, origin: str, resize: Resize = COVER, channels: int = 3
) -> tuple[Pixels, str]:
    """Return the image in `data` as (channels, H, W) uint8, and its file format.

    It is what `open_rgb` gives, as grey where `channels` is 1, made to fit as `resize` says. Raises
    DataError that names `origin` when the image is damaged, huge or of another kind.
    """
    rgb, kind = open_rgb(data, origin)
    refuse_thin(rgb.size, resize, origin)
    return channels_first(fit(with_channels(rgb, channels), size, resize)), kind


def with_channels(rgb: Image.Image, channels: int) -> Image.Image:
    """Return `rgb` itself for 3 `channels`, its luma (ITU-R 601) for 1."""
    return rgb.convert("L") if channels == 1 else rgb


def open_rgb(data: bytes, origin: str) -> tuple[Image.Image, str]:
    """Return the image in `data` as upright RGB at its own size, and its file format.

    EXIF rotation is applied, 16-bit grey keeps its upper 8 bits, what is transparent becomes white.
    Raises DataError that names `origin` when the image is damaged, huge or of another kind.
    """
    image = _opened(data, origin)
    kind = image.format or "unknown"
    try:
        upright = ImageOps.exif_transpose(image)
        rgb = _rgb(upright, origin)
        rgb.load()
    except DataError:
        raise
    except Exception as error:  # decoders raise all kinds of errors for a damaged file
        raise _damaged(origin, error) from error
    return rgb, kind


def fit(image: Image.Image, size: ImageSize, resize: Resize = COVER) -> Image.Image:
    """Return `image` at `size` pixels, scaled with anti-aliasing as `resize` says."""
    width, height = image.size
    tall, wide = sides_of(size)
    smooth = _FILTERS[resize.interpolation]
    if resize.shorter_side is not None:
        return _cut_centre(_scale_shorter_side(image, resize.shorter_side, smooth), tall, wide)
    if (width, height) == (wide, tall):
        return image
    if resize.stretch:
        return image.resize((wide, tall), smooth)
    # Scaling just the central part is the same, and needs no memory for what is cut off.
    if width * tall <= height * wide:
        part_width, part_height = float(width), width * tall / wide
    else:
        part_width, part_height = height * wide / tall, float(height)
    left, top = (width - part_width) / 2, (height - part_height) / 2
    box = (left, top, left + part_width, top + part_height)
    return image.resize((wide, tall), smooth, box=box)


def _scale_shorter_side(image: Image.Image, length: int, smooth: Image.Resampling) -> Image.Image:
    size = _scaled_size(image.size, length)
    return image if image.size == size else image.resize(size, smooth)


def _scaled_size(size: tuple[int, int], length: int) -> tuple[int, int]:
    """Return width and height when the shorter one becomes `length`.

    The longer one is rounded down, as torchvision's Resize does it, with which ImageNet networks
    were evaluated.
    """
    width, height = size
    if width <= height:
        return length, int(length * height / width)
    return int(length * width / height), length


def _cut_centre(image: Image.Image, tall: int, wide: int) -> Image.Image:
    """Return the part of that size at the centre; half a pixel is rounded to the even one."""
    width, height = image.size
    left, top = round((width - wide) / 2), round((height - tall) / 2)
    return image.crop((left, top, left + wide, top + tall))


def fit_all(images: Pixels, size: ImageSize, resize: Resize = COVER, channels: int = 3) -> Pixels:
    """Return (N, 3, H, W) uint8 RGB `images` as (N, channels, *size), each treated as by `read`."""
    sides = sides_of(size)
    unscaled = images.shape[2:] == sides and resize.shorter_side in (None, min(sides))
    if unscaled and channels == images.shape[1]:
        return images
    result = np.empty((len(images), channels, *sides), np.uint8)

    def place(index: int) -> None:
        image = Image.fromarray(np.ascontiguousarray(images[index].transpose(1, 2, 0)))
        result[index] = channels_first(fit(with_channels(image, channels), size, resize))

    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(place, range(len(images)), chunksize=1024))
    return result


def _opened(data: bytes, origin: str) -> Image.Image:
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found, _, _ = one_line(error).partition(", could be")  # Pillow goes on about attacks
        raise _huge(origin, found) from error
    except PIL.UnidentifiedImageError as error:
        raise DataError(
            f"{origin} is damaged or no image, whatever its name says; "
            f"allowed: {', '.join(FORMATS)}: replace it or remove it"
        ) from error
    except Exception as error:
        raise _damaged(origin, error) from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise _huge(origin, f"{image.width} x {image.height} pixels, allowed: {limit} in all")
    return image


def _rgb(image: Image.Image, origin: str) -> Image.Image:
    if image.mode == "F":
        raise DataError(
            f"{origin} has floating-point pixels, whose range is not known; "
            "allowed: 8 or 16 bits per channel: convert it"
        )
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((wide >> 8).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image if image.mode == "RGB" else image.convert("RGB")


def channels_first(image: Image.Image) -> Pixels:
    """Return an RGB or grey `image` as (C, H, W) uint8."""
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def refuse_thin(size: tuple[int, int], resize: Resize, origin: str) -> None:
    """Raise DataError for an image that would take too much memory once its shorter side fits."""
    if resize.shorter_side is None or Image.MAX_IMAGE_PIXELS is None:
        return
    width, height = _scaled_size(size, resize.shorter_side)
    if width * height > Image.MAX_IMAGE_PIXELS:
        raise _huge(origin, f"{size[0]} x {size[1]} pixels would become {width} x {height}")


def _damaged(origin: str, error: Exception) -> DataError:
    return DataError(f"{origin} is a damaged image: {one_line(error)}; replace it or remove it")


def _huge(origin: str, detail: str) -> DataError:
    return DataError(
        f"{origin} is too large to decode safely: {detail}; scale it down or remove it"
    )

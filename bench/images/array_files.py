"""Images as arrays: .npz and .npy files, and what a function of the user's yields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from foldbench.bench import units
from foldbench.bench.arrays import Images, Labels, Pixels
from foldbench.bench.errors import DataError, listed, one_line
from foldbench.bench.images.blocks import blocks_of, map_blocks, rows_of
from foldbench.bench.images.image_set import DataOptions, Split
from foldbench.bench.images.listing import ARRAYS, Listing
from foldbench.bench.images.pixels import fit_all
from foldbench.bench.images.sources import LARGEST_FILE_BYTES, unreadable

_IMAGES = ("images", "x", "data", "image", "x_test")
_LABELS = ("labels", "y", "targets", "label", "y_test")
_FORM = (
    "allowed: images (or x, data) as uint8 (N, H, W, C) or (N, C, H, W), or as float32 "
    "(N, C, H, W) already preprocessed; labels (or y) as whole numbers (N,), or none"
)


@dataclass(frozen=True)
class Arrays:
    """Images and labels as they were found."""

    images: np.ndarray
    labels: np.ndarray | None


def read_arrays(path: Path) -> Arrays:
    """Return what an .npz or .npy file holds; a .npy is mapped, no pickle is loaded.

    Raises DataError for a file that is damaged or has no images.
    """
    try:
        return _load(path, str(path))
    except OSError as error:
        raise unreadable(path, error) from error


def arrays_in(listing: Listing) -> Arrays | None:
    """Return the arrays of an archive that holds no images: an .npz, or .npy files by their names.

    None for an archive without any. Raises DataError for several .npz files, and for what
    `read_arrays` refuses.
    """
    found = {file.parts: file for file in listing.others if file.parts[-1].lower().endswith(ARRAYS)}
    if listing.files or not found or not listing.is_archive:
        return None
    for file in found.values():
        if file.size_bytes > LARGEST_FILE_BYTES:
            raise DataError(
                f"{file.origin} has {units.size(file.size_bytes)}; allowed in an archive: "
                f"{units.size(LARGEST_FILE_BYTES)}: unpack it, and give it by itself"
            )
    read = {
        file.parts[-1]: _load(BytesIO(_bytes(content)), file.origin)
        for file, content in listing.contents(list(found))
    }
    whole = [arrays for name, arrays in read.items() if name.lower().endswith(".npz")]
    if len(whole) > 1 or (whole and len(read) > 1):
        raise DataError(f"{listing.path} holds {listed(read)}: keep one .npz file, or .npy files")
    if whole or len(read) == 1:
        return next(iter(read.values()))
    return _from_archive(str(listing.path), {Path(n).stem: a.images for n, a in read.items()})


def _bytes(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _load(source: Path | BytesIO, origin: str) -> Arrays:
    """Raises OSError with a number where the file itself cannot be read."""
    try:
        mapped: Literal["r"] | None = "r" if isinstance(source, Path) else None
        loaded = np.load(source, mmap_mode=mapped, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Arrays(loaded, None)
        with loaded:
            return _from_archive(origin, loaded)
    except DataError:
        raise
    except OSError as error:
        if error.errno is None:
            raise _damaged(origin, error) from error
        raise
    except (ValueError, EOFError, BadZipFile, MemoryError) as error:
        raise _damaged(origin, error) from error


def _damaged(path: str, error: Exception) -> DataError:
    return DataError(
        f"{path} is damaged or holds Python objects ({one_line(error, 120)}); {_FORM}: save it "
        "with numpy.save or numpy.savez"
    )


def _from_archive(path: str, loaded: Mapping[str, Any]) -> Arrays:
    names = {name.lower(): name for name in loaded}
    images = next((names[name] for name in _IMAGES if name in names), None)
    labels = next((names[name] for name in _LABELS if name in names), None)
    if images is None:
        raise DataError(f"{path} has no images (found: {listed(loaded) or 'nothing'}); {_FORM}")
    return Arrays(_unpacked(loaded, images), loaded[labels] if labels else None)


def _unpacked(loaded: Mapping[str, Any], name: str) -> np.ndarray:
    """Return an array; one of an .npz file is mapped from a file that goes with it."""
    archive = loaded.zip if isinstance(loaded, NpzFile) else None
    if archive is None or f"{name}.npy" not in archive.namelist():
        return loaded[name]
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            return loaded[name]
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
        if by_column or dtype.hasobject or not shape or 0 in shape:
            return loaded[name]
        return map_blocks(shape, dtype, _read_parts(stream, shape, dtype))


def _read_parts(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield the rows of an array, some at a time; raise ValueError where there are fewer."""
    row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    step = rows_of(row_bytes)
    for start in range(0, shape[0], step):
        count = min(step, shape[0] - start)
        data = stream.read(count * row_bytes)
        yield np.frombuffer(data, dtype).reshape(count, *shape[1:])
    stream.read(1)  # has the checksum at the end looked at


def to_split(arrays: Arrays, options: DataOptions, origin: str) -> tuple[Split, tuple[str, ...]]:
    """Return the arrays as a split of (N, C, H, W), and the names of the classes (numbers).

    Images in uint8 have the size that they were found in. Raises DataError that names `origin` for
    arrays of another form.
    """
    images = _to_images(arrays.images, options, origin)
    if arrays.labels is None:
        return Split(images, None), ()
    labels = _to_labels(arrays.labels, len(images), origin)
    return Split(images, labels), tuple(map(str, range(int(labels.max()) + 1)))


def _to_labels(found: np.ndarray, count: int, origin: str) -> Labels:
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise DataError(
            f"{origin}: labels are {found.dtype} {found.shape} for {count} images; allowed: whole "
            f"numbers from 0, of shape ({count},)"
        )
    for label in (found.min(), found.max()):
        if not 0 <= label < 1_000_000:
            raise DataError(f"{origin}: a label is {label}; allowed: numbers of classes, from 0")
    return found.astype(np.int64)


def _to_images(found: np.ndarray, options: DataOptions, origin: str) -> Images:
    if not found.size:
        raise DataError(f"{origin} has no images: they are {found.dtype} {found.shape}; {_FORM}")
    if found.dtype == np.float32:
        if found.ndim != 4 or found.shape[1:] != options.shape:
            raise DataError(
                f"{origin}: float32 images of shape {found.shape} are taken as they are, and the "
                f"network's input is (N, {', '.join(map(str, options.shape))}): give that shape, "
                "or uint8 images"
            )
        if not all(np.isfinite(block).all() for block in blocks_of(found)):
            raise DataError(f"{origin}: some values are NaN or infinite: correct them")
        return found
    if found.dtype != np.uint8 or found.ndim not in (3, 4):
        raise DataError(f"{origin}: images are {found.dtype} {found.shape}; {_FORM}")
    return _channels_first(found, options, origin)


def _channels_first(found: np.ndarray, options: DataOptions, origin: str) -> Pixels:
    """Return (N, C, H, W), whichever of its two forms `found` has."""
    if found.ndim == 3:
        return found[:, None]
    allowed = {1, 3} if options.channels in (1, 3) else {options.channels}
    first, last = found.shape[1] in allowed, found.shape[3] in allowed
    if first and last:  # such as (N, 3, H, 3): the asked size decides, where it can
        first = found.shape[1:] == options.shape
        last = not first and (*found.shape[3:], *found.shape[1:3]) == options.shape
    if first == last:
        raise DataError(
            f"{origin}: which axis of {found.shape} holds the {options.channels} channels cannot "
            "be told: give (N, C, H, W) or (N, H, W, C) with as many channels as data.channels"
        )
    return found if first else found.transpose(0, 3, 1, 2)


def fit(images: Images, options: DataOptions) -> Images:
    """Return images in uint8 at the size that is asked for, others as they are.

    Raises DataError where they would have to be resized and have neither one channel nor three.
    """
    if images.dtype != np.uint8:
        return images
    if images.shape[1:] == options.shape and options.resize.shorter_side is None:
        return images
    if options.channels not in (1, 3):
        raise DataError(
            f"images have {images.shape[2]}x{images.shape[3]} pixels, and arrays of "
            f"{options.channels} channels are not resized: give them at the network's size"
        )
    shape = len(images), *options.shape
    blocks = blocks_of(images, row_bytes=int(np.prod(options.shape)))
    rgb = (np.broadcast_to(block, (len(block), 3, *block.shape[2:])) for block in blocks)
    fitted = (fit_all(one, options.image_size, options.resize, options.channels) for one in rgb)
    return map_blocks(shape, np.uint8, fitted)

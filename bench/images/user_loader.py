"""What a function of the user's yields, written into the cache by a process of its own."""

import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from foldbench.bench import units
from foldbench.bench.arrays import Labels
from foldbench.bench.errors import BenchError, DataError, RunError, cut, one_line
from foldbench.bench.images.array_files import Arrays
from foldbench.bench.images.cache import prepare, unwritable
from foldbench.bench.progress import ProgressListener
from foldbench.bench.store.files import json_sha256, replacing, temporary_name
from foldbench.bench.store.temporary import filling
from foldbench.bench.user_code import import_attribute
from foldbench.bench.workers.isolated import run_isolated

_FORM = (
    "allowed: a function that returns or yields batches, each (images, labels) or images alone, as "
    "arrays or tensors: uint8 or float32, all of one shape"
)
_HEADER_BYTES = 256
_TELL_S = 10.0


def split_spec(path: Path) -> tuple[Path, str] | None:
    """Return the file and the function that ``loader.py:make`` names; None for anything else."""
    file, colon, name = str(path).rpartition(":")
    return (Path(file), name) if colon and file.endswith(".py") and name.isidentifier() else None


def run_loader(file: Path, name: str, cache: Path, listener: ProgressListener) -> Arrays:
    """Return all that the function yields, mapped from a file that goes with the array.

    Two calls may give other images, or another order: each has a file of its own. Raises DataError
    when the function fails.
    """
    if not file.is_file():
        raise DataError(f"{file} does not exist: correct --data, such as loader.py:make")
    spec = f"{file.resolve()}:{name}"
    folder = cache / "images" / f"loader-{json_sha256([str(file.resolve()), name])[:24]}"
    prepare(folder)
    path = folder / f"{temporary_name()}.npy"
    with filling(folder):
        try:
            labels = run_isolated(write_batches, spec, path, listener=listener)
        except (BenchError, RuntimeError, MemoryError) as error:
            reason = cut(one_line(error), 300)
            raise DataError(f"{file}:{name}: {reason}; {_FORM}") from error
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    weakref.finalize(images.base, _remove, path)
    return Arrays(images, labels)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def write_batches(spec: str, path: Path, listener: ProgressListener) -> Labels | None:
    """Write the images that the function `spec` names yields to `path`; return their labels.

    Raises DataError for what it raises or should not yield, and where the disk refuses.
    """
    labels: list[Labels | None] = []
    try:
        with replacing(path) as temporary:
            _write_images(temporary, _told(_batches(spec), listener), labels)
    except RunError as error:
        raise unwritable(path.parent, error.__cause__ or error) from error
    found = [one for one in labels if one is not None]
    return np.concatenate(found) if found else None


def _batches(spec: str) -> Iterator[tuple[np.ndarray, Labels | None]]:
    try:
        made = import_attribute(spec)
        yield from map(_arrays, iter(made() if callable(made) else made))
    except BenchError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"{type(error).__name__}: {one_line(error)}") from error


def _told(
    batches: Iterator[tuple[np.ndarray, Labels | None]], listener: ProgressListener
) -> Iterator[tuple[np.ndarray, Labels | None]]:
    """Yield the batches, and tell how far they are: nobody knows how many there will be."""
    count, told_s = 0, time.monotonic()
    for images, labels in batches:
        yield images, labels
        count += len(images)
        if time.monotonic() - told_s > _TELL_S:
            told_s = time.monotonic()
            listener.note(f"{units.count(count)} images from the loader so far")


def _write_images(
    path: Path,
    batches: Iterator[tuple[np.ndarray, Labels | None]],
    labels: list[Labels | None],
) -> None:
    """Write the images as one .npy file; add each batch's labels to `labels`."""
    count, first = 0, None
    with path.open("wb") as stream:
        stream.write(bytes(_HEADER_BYTES))
        for images, numbers in batches:
            first = first if first is not None else images[:0]
            if images.shape[1:] != first.shape[1:] or images.dtype != first.dtype:
                raise DataError(
                    f"batch {len(labels)} is {images.dtype} {images.shape}, the first one "
                    f"{first.dtype} {first.shape[1:]}"
                )
            if labels and (labels[0] is None) != (numbers is None):
                raise DataError("some batches have labels and others have none")
            stream.write(np.ascontiguousarray(images).data)
            labels.append(numbers)
            count += len(images)
        if first is None or not count:
            raise DataError("it yields nothing")
        stream.seek(0)
        stream.write(_header(first.dtype, (count, *first.shape[1:])))


def _arrays(batch: Any) -> tuple[np.ndarray, Labels | None]:
    parts = batch if isinstance(batch, tuple | list) else (batch,)
    if len(parts) not in (1, 2):
        raise DataError(f"a batch has {len(parts)} parts")
    images = np.asarray(parts[0])
    if images.dtype not in (np.uint8, np.float32) or images.ndim not in (3, 4):
        raise DataError(f"a batch of images is {images.dtype} {images.shape}")
    if len(parts) == 1:
        return images, None
    labels = np.atleast_1d(np.asarray(parts[1]))
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise DataError(f"{len(images)} images have labels {labels.dtype} {labels.shape}")
    return images, labels.astype(np.int64)


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the beginning of a .npy file, always of the same size."""
    text = repr({"descr": dtype.str, "fortran_order": False, "shape": shape}).encode()
    room = _HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n"

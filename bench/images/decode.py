"""Decoding many image files in threads, in the order in which they come."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from foldbench.bench.arrays import Pixels
from foldbench.bench.images.image_set import COVER, ImageSize, Split, sides_of
from foldbench.bench.images.pixels import read
from foldbench.bench.images.sources import ImageFile
from foldbench.bench.machine.environment import usable_cores
from foldbench.bench.records import Resize
from foldbench.bench.store.files import json_sha256

# What one task decodes: enough small files to be worth a task, few enough bytes to wait in memory.
_TASK_FILES = 128
_TASK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Decoded:
    """All images of a source."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    """Names of the class folders, sorted."""
    formats: tuple[str, ...]
    """File formats that were met, sorted, such as ``JPEG``."""
    test_files_sha256: str
    """Of names and classes of the test images, in order."""


def decode(
    files: Iterable[ImageFile], size: ImageSize, resize: Resize = COVER, channels: int = 3
) -> Decoded:
    """Return all images at `size` pixels, sorted by class and then by file name.

    `resize` says how others are made to fit. The test split is what lies in ``test``, or in ``val``
    where there is no ``test``. Raises DataError for a damaged image and whatever `files` raises.
    """
    splits: dict[str, dict[tuple[str, str], Pixels]] = {}
    formats: set[str] = set()
    for file, pixels, kind in decoded(files, size, resize, channels):
        splits.setdefault(file.split, {})[file.class_name, file.name] = pixels
        formats.add(kind)
    train, test = splits["train"], splits["test" if "test" in splits else "val"]
    classes = sorted({class_name for class_name, _ in train})
    shape = (channels, *sides_of(size))
    tested = json_sha256([[name, class_name] for class_name, name in sorted(test)])
    return Decoded(
        _split(train, classes, shape),
        _split(test, classes, shape),
        tuple(classes),
        tuple(sorted(formats)),
        tested,
    )


def decoded(
    files: Iterable[ImageFile], size: ImageSize, resize: Resize = COVER, channels: int = 3
) -> Iterator[tuple[ImageFile, Pixels, str]]:
    """Yield each file with its pixels (channels, H, W) and its format, in the files' order."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield from _decoded(files, lambda file: _read(file, size, resize, channels))


_Read = Callable[[ImageFile], tuple[ImageFile, Pixels, str]]


def _read(
    file: ImageFile, size: ImageSize, resize: Resize, channels: int
) -> tuple[ImageFile, Pixels, str]:
    return file, *read(file.read(), size, file.origin, resize, channels)


def _decoded(
    files: Iterable[ImageFile], read_file: _Read
) -> Iterator[tuple[ImageFile, Pixels, str]]:
    workers = usable_cores()
    waiting: deque[Future[list[tuple[ImageFile, Pixels, str]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for task in _tasks(files):
            waiting.append(pool.submit(_decode_task, task, read_file))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _tasks(files: Iterable[ImageFile]) -> Iterator[list[ImageFile]]:
    task: list[ImageFile] = []
    size_bytes = 0
    for file in files:
        task.append(file)
        size_bytes += file.size_bytes
        if len(task) == _TASK_FILES or size_bytes > _TASK_BYTES:
            yield task
            task, size_bytes = [], 0
    if task:
        yield task


def _decode_task(task: list[ImageFile], read_file: _Read) -> list[tuple[ImageFile, Pixels, str]]:
    return [read_file(file) for file in task]


def _split(
    found: dict[tuple[str, str], Pixels], classes: list[str], shape: tuple[int, int, int]
) -> Split:
    """Return the images in order; empties `found`, so that no pixel is in memory twice."""
    images = np.empty((len(found), *shape), np.uint8)
    labels = np.empty(len(found), np.int64)
    index_of = {name: index for index, name in enumerate(classes)}
    for row, key in enumerate(sorted(found)):
        images[row] = found.pop(key)
        labels[row] = index_of[key[0]]
    return Split(images, labels)

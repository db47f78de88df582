"""Decoding many image files in threads, in the order in which they come."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from foldbench.bench import units
from foldbench.bench.arrays import Pixels
from foldbench.bench.errors import DataError, cut
from foldbench.bench.images.image_set import COVER, ImageSize, Split, sides_of
from foldbench.bench.images.pixels import read
from foldbench.bench.images.sources import ImageFile
from foldbench.bench.machine.environment import usable_cores
from foldbench.bench.records import Resize
from foldbench.bench.store.files import json_sha256

# What one task decodes: enough small files to be worth a task, few enough bytes to wait in memory.
_TASK_FILES = 128
_TASK_BYTES = 8 * 2**20
_NAMED = 5
"""Files that a message names, at most."""


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


@dataclass
class BadFiles:
    """Files that could not be read, all of which are named at the end, or skipped and counted."""

    skip: bool = False
    errors: list[DataError] = field(default_factory=list)

    def refuse(self, total: int) -> None:
        """Raise DataError that names them all, unless they are to be skipped."""
        if not self.errors or self.skip:
            return
        if len(self.errors) == 1:
            hint = ", or skip it with --skip-bad"
            raise DataError(f"{self.errors[0]}{hint}") from self.errors[0]
        reasons = [str(error).partition("; ")[0].partition(": check")[0] for error in self.errors]
        raise DataError(
            f"{units.out_of(len(self.errors), total)} image files cannot be read: "
            f"{'; '.join(cut(reason, 160) for reason in reasons[:_NAMED])}"
            f"{_more(len(self.errors) - _NAMED)}: replace or remove them, or skip them with "
            "--skip-bad"
        )


def _more(count: int) -> str:
    return f"; and {units.count(count)} more" if count > 0 else ""


def decode(
    files: Iterable[ImageFile],
    size: ImageSize,
    resize: Resize = COVER,
    channels: int = 3,
    bad: BadFiles | None = None,
) -> Decoded:
    """Return all images at `size` pixels, sorted by class and then by file name.

    `resize` says how others are made to fit. The test split is what lies in ``test``, or in ``val``
    where there is no ``test``. Raises DataError for a damaged image and whatever `files` raises.
    """
    splits: dict[str, dict[tuple[str, str], Pixels]] = {}
    formats: set[str] = set()
    for file, pixels, kind in decoded(files, size, resize, channels, bad):
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
    files: Iterable[ImageFile],
    size: ImageSize,
    resize: Resize = COVER,
    channels: int = 3,
    bad: BadFiles | None = None,
) -> Iterator[tuple[ImageFile, Pixels, str]]:
    """Yield each file with its pixels (channels, H, W) and its format, in the files' order.

    Files that cannot be read are added to `bad`; at the end, DataError names them unless they are
    to be skipped.
    """
    bad = bad or BadFiles()
    total = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for found in _decoded(files, lambda file: _read(file, size, resize, channels)):
            total += 1
            if isinstance(found, DataError):
                bad.errors.append(found)
            else:
                yield found
    bad.refuse(total)


_Found = tuple[ImageFile, Pixels, str] | DataError
_Read = Callable[[ImageFile], _Found]


def _read(file: ImageFile, size: ImageSize, resize: Resize, channels: int) -> _Found:
    try:
        return file, *read(file.read(), size, file.origin, resize, channels)
    except DataError as error:
        return error


def _decoded(files: Iterable[ImageFile], read_file: _Read) -> Iterator[_Found]:
    workers = usable_cores()
    waiting: deque[Future[list[_Found]]] = deque()
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


def _decode_task(task: list[ImageFile], read_file: _Read) -> list[_Found]:
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

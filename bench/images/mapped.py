"""One split decoded straight into a file of the cache, and mapped from there.

However many images there are, few of them are in memory: a row is written as soon as it is decoded.
Each split is an entry of its own, so that what is only measured decodes no training images.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from foldbench.bench import units
from foldbench.bench.arrays import Labels, Pixels
from foldbench.bench.errors import DataError, RunError, one_line
from foldbench.bench.images.blocks import blocks_of, write_npy
from foldbench.bench.images.cache import prepare, unwritable
from foldbench.bench.images.decode import BadFiles, decoded
from foldbench.bench.images.forms import Member
from foldbench.bench.images.image_set import DataOptions, Split, content_sha256
from foldbench.bench.images.listing import Listing
from foldbench.bench.images.pixels import VERSION
from foldbench.bench.images.sources import ImageFile
from foldbench.bench.records import Record, Sha256
from foldbench.bench.store.files import json_sha256, temporary_name, write_text, write_with
from foldbench.bench.store.temporary import filling

_log = logging.getLogger("foldbench")
_IMAGES, _LABELS, _RECORD = "images.npy", "labels.npy", "entry.json"
_REPORT_EVERY = 50


class Entry(Record):
    """What an entry of the cache holds: one split."""

    version: Literal[1] = 1
    key: Sha256
    shape: tuple[int, int, int]
    count: int
    labelled: bool
    sha256: Sha256
    """Of pixels and labels."""
    size_bytes: int
    """Of the file of pixels."""
    formats: tuple[str, ...]
    """Formats of the image files."""
    files_sha256: Sha256
    """Of names and classes of the images, in order."""
    skipped: dict[str, int]
    """Files that could not be read, by the reason."""


@dataclass(frozen=True)
class Mapped:
    """One split, and what its entry says of it."""

    split: Split
    entry: Entry
    from_cache: bool


def fetch_split(
    options: DataOptions,
    listing: Listing,
    members: Sequence[Member],
    classes: Sequence[str],
    what: str,
) -> Mapped:
    """Return the images of `members` in their order, mapped from the cache.

    `classes` says which number a class has; `what` names the split for people. Raises DataError for
    files that cannot be read, all of them at once, and for a cache that cannot be written.
    """
    facts = {file.parts: (file.origin, file.size_bytes, *file.facts) for file in listing.files}
    key = json_sha256(
        [
            "split",
            [[*facts[member.parts], member.class_name] for member in members],
            list(classes),
            list(options.shape),
            options.resize.model_dump(mode="json"),
            VERSION,
            options.skip_bad,
        ]
    )
    folder = options.cache / "images" / key[:24]
    found = _load(folder, key)
    if found is not None:
        return Mapped(found[1], found[0], from_cache=True)
    prepare(folder)
    with filling(folder) as waited:
        found = _load(folder, key) if waited else None
        if found is not None:
            return Mapped(found[1], found[0], from_cache=True)
        _log.info("decoding the images of %s (once: they are cached in %s)", listing.path, folder)
        entry = _decode(folder, key, options, listing, members, classes, what)
        return Mapped(_map(folder, entry), entry, from_cache=False)


def _load(folder: Path, key: str) -> tuple[Entry, Split] | None:
    """Return what is cached; None when nothing is, or when it is damaged, which is logged."""
    try:
        entry = Entry.model_validate_json((folder / _RECORD).read_text(encoding="utf-8"))
        if entry.key != key:
            raise ValueError("its key is another one")
        if (folder / _IMAGES).stat().st_size != entry.size_bytes:
            raise ValueError(f"{_IMAGES} does not have the bytes that were written")
        split = _map(folder, entry)
        if content_sha256(split) != entry.sha256:
            raise ValueError("pixels or labels are not the ones that were written")
    except (OSError, ValueError, EOFError) as error:
        if not os.path.exists(folder / _RECORD):  # nothing was cached, or not yet
            return None
        reason = one_line(error)
        _log.warning("decoding again: the cached images in %s are damaged: %s", folder, reason)
        return None
    return entry, split


def _map(folder: Path, entry: Entry) -> Split:
    images = np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False)
    if images.dtype != np.uint8 or images.shape != (entry.count, *entry.shape):
        raise ValueError(f"images are {images.dtype} {images.shape}")
    if not entry.labelled:
        return Split(images, None)
    labels = np.load(folder / _LABELS, allow_pickle=False)
    if labels.dtype != np.int64 or labels.shape != (entry.count,):
        raise ValueError(f"labels are {labels.dtype} {labels.shape}")
    return Split(images, labels)


def _decode(
    folder: Path,
    key: str,
    options: DataOptions,
    listing: Listing,
    members: Sequence[Member],
    classes: Sequence[str],
    what: str,
) -> Entry:
    bad, formats = BadFiles(options.skip_bad), Counter[str]()
    temporary = folder / f"{temporary_name()}.npy"
    try:
        with RowWriter(temporary, (len(members), *options.shape), "|u1") as writer:
            for row, pixels, kind in _rows(options, listing, members, bad, what):
                writer.write(row, pixels)
                formats[kind] += 1
            kept = writer.written
        if not kept:
            raise DataError(f"{listing.path}: none of the {what} images can be read")
        chosen = [members[row] for row in kept]
        if len(kept) < len(members):
            _drop_missing(temporary, kept)
        os.replace(temporary, folder / _IMAGES)
        labels = _labels(chosen, classes)
        if labels is not None:
            write_with(folder / _LABELS, lambda path: np.save(path, labels, allow_pickle=False))
        images = np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False)
        entry = Entry(
            key=key,
            shape=options.shape,
            count=len(chosen),
            labelled=labels is not None,
            sha256=content_sha256(Split(images, labels)),
            size_bytes=(folder / _IMAGES).stat().st_size,
            formats=tuple(sorted(formats)),
            files_sha256=json_sha256([["/".join(m.parts), m.class_name] for m in chosen]),
            skipped={"damaged": len(bad.errors)} if bad.errors else {},
        )
        write_text(folder / _RECORD, entry.model_dump_json(indent=1))
    except (OSError, RunError) as error:
        raise unwritable(folder, error.__cause__ or error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return entry


def _rows(
    options: DataOptions, listing: Listing, members: Sequence[Member], bad: BadFiles, what: str
) -> Iterator[tuple[int, Pixels, str]]:
    """Yield row, pixels and format of each image, in the order in which they are read."""
    row_of = {member.parts: row for row, member in enumerate(members)}

    def files() -> Iterator[ImageFile]:
        for file, content in listing.contents(row_of):
            name = str(row_of[file.parts])
            yield ImageFile("", "", name, file.origin, content, file.size_bytes)

    options.listener.begin(f"decoding {units.count(len(members))} {what} images", len(members))
    size, resize = options.image_size, options.resize
    for done, (file, pixels, kind) in enumerate(
        decoded(files(), size, resize, options.channels, bad)
    ):
        if done % _REPORT_EVERY == 0:
            options.listener.advance(done)
        yield int(file.name), pixels, kind
    options.listener.end()


def _labels(members: Sequence[Member], classes: Sequence[str]) -> Labels | None:
    if any(member.class_name is None for member in members):
        return None
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[member.class_name or ""] for member in members], np.int64)


class RowWriter:
    """A .npy file that is written row by row, in any order, without being in memory."""

    def __init__(self, path: Path, shape: tuple[int, ...], descr: str) -> None:
        self._file = path.open("wb")
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(descr).itemsize
        self._size = self._start + shape[0] * self._row_bytes
        self._rows: set[int] = set()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.truncate(self._size)  # the last rows may be missing
        self._file.close()

    @property
    def written(self) -> list[int]:
        """The rows that were written, in order."""
        return sorted(self._rows)

    def write(self, row: int, values: np.ndarray) -> None:
        """Write one row; raise OSError when the disk refuses."""
        self._file.seek(self._start + row * self._row_bytes)
        self._file.write(np.ascontiguousarray(values).data)
        self._rows.add(row)


def _drop_missing(path: Path, kept: Sequence[int]) -> None:
    """Rewrite the .npy file without the rows that were not written."""
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    shorter = path.with_name(f"{path.stem}-kept.npy")
    try:
        with shorter.open("wb") as stream:
            blocks = blocks_of(images, np.array(kept))
            write_npy(stream, (len(kept), *images.shape[1:]), images.dtype, blocks)
        os.replace(shorter, path)
    finally:
        shorter.unlink(missing_ok=True)

"""Decoded images on the disk: memory-mappable arrays and a record that says what they are.

One folder per entry. Each file is put in place atomically, the record last, and the same key always
stands for the same bytes. One process writes an entry; others wait for it.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from foldbench.bench.errors import DataError, RunError, one_line
from foldbench.bench.images.decode import BadFiles, Decoded
from foldbench.bench.images.image_set import (
    DataOptions,
    ImageSet,
    Split,
    content_sha256,
    make_image_set,
    sides_of,
)
from foldbench.bench.images.pixels import VERSION
from foldbench.bench.records import Record, Sha256
from foldbench.bench.store.files import json_sha256, write_text, write_with
from foldbench.bench.store.temporary import filling

_log = logging.getLogger("foldbench")
_RECORD = "entry.json"


class Entry(Record):
    """What an entry of the cache holds."""

    version: Literal[1] = 1
    key: Sha256
    """Of the files, the image size and the decoder."""
    image_size: int | tuple[int, int]
    channels: int = 3
    classes: tuple[str, ...]
    formats: tuple[str, ...]
    """Formats of the image files."""
    train_count: int
    test_count: int
    sha256: Sha256
    """Of the decoded pixels and labels of both splits."""
    sizes_bytes: dict[str, int]
    """Of each array file."""
    test_files_sha256: Sha256 | None = None
    """Of names and classes of the test images; None in entries from before it was kept."""
    skipped: dict[str, int] = Field(default_factory=dict)
    """Files of the source that were skipped, by the reason."""


def fetch(
    options: DataOptions,
    path: Path,
    fingerprint: Sha256,
    decode: Callable[[BadFiles], Decoded],
    *,
    name: str,
    title: Callable[[Entry], str],
    kind: str = "imagefolder",
    rule: Sequence[object] = (),
    original: bool = False,
    skipped: Mapping[str, int] | None = None,
) -> ImageSet:
    """Return the images of `path`, mapped from their entry; without one they are decoded into it.

    An entry is known by the files' `fingerprint`, what `options` make of them, and the `rule` that
    labels and splits them; `skipped` counts files that are no images, by the reason. Raises what
    `decode` raises, and DataError when the cache cannot be written.
    """
    started = perf_counter()
    rules = [list(rule)] if rule else []
    resize = options.resize.model_dump(exclude_defaults=True)
    # What is by default is no part of the key: entries from before it could be chosen stay known.
    changes: list[object] = [resize] if resize else []
    changes += [{"channels": options.channels}] if options.channels != 3 else []
    changes += [{"skip_bad": True}] if options.skip_bad else []
    key = json_sha256([fingerprint, options.image_size, VERSION, *rules, *changes])
    folder = options.cache / kind / key[:24]
    cached = _load(folder, key)
    from_cache = cached is not None
    if cached is None:
        prepare(folder)
        with filling(folder) as waited:
            cached = _load(folder, key) if waited else None
            if cached is None:
                _log.info("decoding the images of %s (once: they are cached in %s)", path, folder)
                bad = BadFiles(options.skip_bad)
                decoded = decode(bad)
                counts = dict(skipped or {}) | ({"damaged": len(bad.errors)} if bad.errors else {})
                entry = _save(folder, key, options, decoded, counts)
                cached = _load(folder, key) or (entry, decoded.train, decoded.test)
    entry, train, test = cached
    return make_image_set(
        train,
        test,
        name=name,
        title=title(entry),
        path=path,
        classes=entry.classes,
        original=original,
        started=started,
        sha256=entry.sha256,
        from_cache=from_cache,
        test_files_sha256=entry.test_files_sha256,
        skipped=entry.skipped or {k: n for k, n in (skipped or {}).items() if n},
    )


def _load(folder: Path, key: str) -> tuple[Entry, Split, Split] | None:
    """Return the entry with both splits, images as read-only memory maps.

    Returns None when there is no entry or when it is damaged, which is logged.
    """
    try:
        entry = Entry.model_validate_json((folder / _RECORD).read_text(encoding="utf-8"))
        if entry.key != key:
            raise ValueError("its key is another one")
        for name, size in entry.sizes_bytes.items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} does not have the {size} bytes that were written")
        train = _load_split(folder, "train", entry.train_count, entry)
        test = _load_split(folder, "test", entry.test_count, entry)
        if content_sha256(train, test) != entry.sha256:
            raise ValueError("pixels or labels are not the ones that were written")
    except (OSError, ValueError, EOFError) as error:
        if not os.path.exists(folder / _RECORD):  # nothing was cached, or not yet
            return None
        reason = one_line(error)
        _log.warning("decoding again: the cached images in %s are damaged: %s", folder, reason)
        return None
    return entry, train, test


def prepare(folder: Path) -> None:
    """Make `folder`; raise DataError when it cannot be written, before any image is decoded."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from error


def _save(
    folder: Path, key: str, options: DataOptions, decoded: Decoded, skipped: dict[str, int]
) -> Entry:
    """Write the entry and return its record; raise DataError when the disk refuses."""
    arrays: dict[str, npt.NDArray] = {
        "train-images.npy": decoded.train.images,
        "train-labels.npy": decoded.train.require_labels(),
        "test-images.npy": decoded.test.images,
        "test-labels.npy": decoded.test.require_labels(),
    }
    try:
        for name, array in arrays.items():
            write_with(folder / name, partial(np.save, arr=array, allow_pickle=False))
        entry = Entry(
            key=key,
            image_size=options.image_size,
            channels=options.channels,
            classes=decoded.classes,
            formats=decoded.formats,
            train_count=len(decoded.train),
            test_count=len(decoded.test),
            sha256=content_sha256(decoded.train, decoded.test),
            sizes_bytes={name: os.path.getsize(folder / name) for name in arrays},
            test_files_sha256=decoded.test_files_sha256,
            skipped={reason: count for reason, count in skipped.items() if count},
        )
        write_text(folder / _RECORD, entry.model_dump_json(indent=1))
    except (OSError, RunError) as error:
        raise unwritable(folder, error.__cause__ or error) from error
    return entry


def _load_split(folder: Path, split: str, count: int, entry: Entry) -> Split:
    images = np.load(folder / f"{split}-images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / f"{split}-labels.npy", allow_pickle=False)
    shape = (count, entry.channels, *sides_of(entry.image_size))
    if images.dtype != np.uint8 or images.shape != shape:
        raise ValueError(f"{split} images are {images.dtype} {images.shape}")
    if labels.dtype != np.int64 or labels.shape != (count,):
        raise ValueError(f"{split} labels are {labels.dtype} {labels.shape}")
    if not np.array_equal(np.unique(labels), np.arange(len(entry.classes))):
        raise ValueError(f"{split} labels are not those of {len(entry.classes)} classes")
    return Split(images, labels)


def unwritable(folder: Path, error: BaseException) -> DataError:
    """Return the error that says why the cache cannot be written, and what to do."""
    reason = getattr(error, "strerror", None) or error
    return DataError(
        f"cannot cache decoded images in {folder}: {reason}; "
        "free space there, or set FOLDBENCH_CACHE to a folder that can be written"
    )

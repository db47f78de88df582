"""What a data set gives, and what it is asked for."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np

from foldbench.bench.arrays import Labels, Pixels
from foldbench.bench.errors import ConfigError
from foldbench.bench.records import DataInfo, Resize

COVER = Resize()
"""Scale to cover the wanted size, cut at the centre."""

ImageSize = int | tuple[int, int]
"""Height and width, pixels; one number for both where they are the same."""


def sides_of(size: ImageSize) -> tuple[int, int]:
    """Return height and width."""
    return (size, size) if isinstance(size, int) else size


SplitRule = Literal["auto", "random", "stratified"]


@dataclass(frozen=True)
class DataOptions:
    """What a data set is asked for."""

    path: Path | None
    """Where the images are; None where the data set has a place of its own."""
    download: bool
    """Whether missing files may be fetched."""
    image_size: ImageSize
    """Height and width of the images to return, pixels."""
    cache: Path
    """Folder for decoded images."""
    resize: Resize = COVER
    """How images of another size are made to fit."""
    label_pattern: str | None = None
    """Regular expression whose group is the class in a file's name; None for the data set's own."""
    split: SplitRule = "auto"
    """auto: the data set's own split, a stratified one where it has none."""
    test_fraction: float = 0.2
    """Share of all images that a random or stratified split tests on."""
    split_seed: int = 42
    """Of a random or stratified split."""
    channels: int = 3
    """Of the images to return: 3 is RGB, 1 is grey; other numbers are for arrays."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images to return."""
        return self.channels, *sides_of(self.image_size)

    def refuse_other_channels(self) -> None:
        """Raise ConfigError unless image files can have as many channels as are asked for."""
        if self.channels not in (1, 3):
            raise ConfigError(
                f"data.channels: found {self.channels}, but image files are read as 3 channels "
                "(RGB) or 1 (grey): give one of them, or arrays (.npy, .npz) with data.name images"
            )


@dataclass(frozen=True)
class Split:
    """Images and labels in memory."""

    images: Pixels
    """(N, C, H, W) uint8, RGB or grey; may be a read-only memory map."""
    labels: Labels
    """(N,) int64, indices into the classes."""


@dataclass(frozen=True)
class ImageSet:
    """Both splits of a data set and where they came from."""

    train: Split
    test: Split
    info: DataInfo


def content_sha256(train: Split, test: Split) -> str:
    """Return the sha256 over shape, pixels and labels of both splits."""
    digest = hashlib.sha256()
    for split in (train, test):
        digest.update(repr(split.images.shape).encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
    return digest.hexdigest()


def make_image_set(
    train: Split,
    test: Split,
    *,
    name: str,
    title: str,
    path: Path | None,
    classes: Iterable[str],
    original: bool,
    started: float,
    sha256: str | None = None,
    from_cache: bool = False,
    test_files_sha256: str | None = None,
) -> ImageSet:
    """Return both splits with their record; reading them began at `started` (`perf_counter`).

    The other arguments are fields of `DataInfo`; the images are hashed where `sha256` is None.
    """
    info = DataInfo(
        name=name,
        title=title,
        path=None if path is None else str(path),
        sha256=sha256 or content_sha256(train, test),
        train_count=len(train.labels),
        test_count=len(test.labels),
        classes=tuple(classes),
        original=original,
        decode_s=perf_counter() - started,
        from_cache=from_cache,
        test_files_sha256=test_files_sha256,
    )
    return ImageSet(train, test, info)

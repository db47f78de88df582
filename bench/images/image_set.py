"""What a data set gives, and what it is asked for."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from foldbench.bench.arrays import Images, Labels, Pixels, Rows
from foldbench.bench.errors import ConfigError, DataError
from foldbench.bench.images.blocks import blocks_of, map_blocks
from foldbench.bench.progress import NullListener, ProgressListener
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
    skip_bad: bool = False
    """Skip and count files that cannot be read, in place of refusing them all."""
    test_subset: int | None = None
    """How many test images to return: a stratified sample drawn with `split_seed`; None for all."""
    needs_train: bool = True
    """Whether the training images are asked for; a data set may return them all the same."""
    listener: ProgressListener = field(default_factory=NullListener)
    """Hears which form of images was read, and how far decoding is."""

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
    """Images and labels, in memory or mapped from a file."""

    images: Images
    """(N, C, H, W) uint8, RGB or grey, or float32 that is the network's input as it is; may be a
    read-only memory map."""
    labels: Labels | None
    """(N,) int64, indices into the classes; None where the images have no labels."""

    def __len__(self) -> int:
        return len(self.images)

    def require_labels(self) -> Labels:
        """Return the labels; raise DataError when the images have none."""
        if self.labels is None:
            raise DataError(
                "the images have no labels, and this needs them: give class folders, a CSV of "
                "path,label, or arrays with labels"
            )
        return self.labels

    def take(self, rows: Rows) -> "Split":
        """Return a copy of some of the images, in the order of `rows`."""
        labels = None if self.labels is None else self.labels[rows]
        images: Images = np.asarray(self.images[rows], self.images.dtype)  # type: ignore[assignment]
        return Split(images, labels)

    def part(self, rows: Rows) -> "Split":
        """Return some of the images, in the order of `rows`, from a file where these are mapped."""
        if not isinstance(self.images, np.memmap):
            return self.take(rows)
        shape = len(rows), *self.images.shape[1:]
        images = map_blocks(shape, self.images.dtype, blocks_of(self.images, rows))
        return Split(images, None if self.labels is None else self.labels[rows])

    def require_pixels(self, purpose: str) -> Pixels:
        """Return the images as uint8; raise DataError for floats, naming what `purpose` needs."""
        if self.images.dtype != np.uint8:
            raise DataError(
                f"the images are float32 arrays, already preprocessed, and {purpose} needs pixels: "
                "give uint8 arrays or image files"
            )
        pixels: Pixels = self.images  # type: ignore[assignment]
        return pixels


@dataclass(frozen=True)
class ImageSet:
    """Both splits of a data set and where they came from."""

    train: Split | None
    """None where there are no training images, or where they were not asked for."""
    test: Split
    info: DataInfo

    def require_train(self, purpose: str) -> Split:
        """Return the training images; raise DataError that says what `purpose` needs them for."""
        if self.train is None or not len(self.train):
            raise DataError(
                f"{self.info.title} has no training images, which {purpose} needs: give a folder "
                "or archive with train/<class>/* beside test/ or val/ with --data"
            )
        return self.train


def content_sha256(*splits: Split) -> str:
    """Return the sha256 over shape, pixels and labels of `splits`, usually both."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr(split.images.shape).encode())
        for block in blocks_of(split.images):
            digest.update(block.data)
        if split.labels is not None:
            digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
    return digest.hexdigest()


def make_image_set(
    train: Split | None,
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
    **facts: Any,
) -> ImageSet:
    """Return both splits with their record; reading them began at `started` (`perf_counter`).

    The other arguments are fields of `DataInfo`; the images are hashed where `sha256` is None.
    """
    info = DataInfo(
        name=name,
        title=title,
        path=None if path is None else str(path),
        sha256=sha256 or content_sha256(*(split for split in (train, test) if split)),
        train_count=facts.pop("train_count", len(train) if train else 0),
        test_count=len(test),
        classes=tuple(classes),
        original=original,
        decode_s=perf_counter() - started,
        from_cache=from_cache,
        test_files_sha256=test_files_sha256,
        labelled=test.labels is not None,
        preprocessed=test.images.dtype == np.float32,
        **facts,
    )
    return ImageSet(train, test, info)

"""Data sets: one file each, found by name.

A plug-in has a function ``load(options: DataOptions) -> ImageSet``. It reads the images, or maps
them from the cache, and never downloads unless `options.download` says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from foldbench.bench.records import DataInfo, Resize

COVER = Resize()
"""Scale to cover the square, cut at the centre."""

SplitRule = Literal["auto", "random", "stratified"]


@dataclass(frozen=True)
class DataOptions:
    """What a data set is asked for."""

    path: Path | None
    """Where the images are; None where the data set has a place of its own."""
    download: bool
    """Whether missing files may be fetched."""
    image_size: int
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


@dataclass(frozen=True)
class Split:
    """Images and labels in memory."""

    images: npt.NDArray[np.uint8]
    """(N, 3, H, W) uint8, RGB; may be a read-only memory map."""
    labels: npt.NDArray[np.int64]
    """(N,) int64, indices into the classes."""


@dataclass(frozen=True)
class ImageSet:
    """Both splits of a data set and where they came from."""

    train: Split
    test: Split
    info: DataInfo

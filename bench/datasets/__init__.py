"""Data sets: one file each, found by name.

A plug-in has a function ``load(options: DataOptions) -> ImageSet``. It reads the images, or maps
them from the cache, and never downloads unless `options.download` says so.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.records import DataInfo


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

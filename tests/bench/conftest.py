"""Small image folders and archives of them."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foldbench.bench.datasets.imagefolder import load
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Return a function that writes `count` 12x12 PNG images into every given class folder."""
    random = np.random.default_rng(0)

    def make(
        paths: tuple[str, ...] = ("train/cat", "train/dog", "test/cat", "test/dog"),
        count: int = 2,
        name: str = "images",
    ) -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for place in paths:
            (root / place).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (12, 12, 3), np.uint8)
                Image.fromarray(pixels).save(root / place / f"{index}.png")
        return root

    return make


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that packs a folder; the file's suffix chooses the compression."""

    def pack(root: Path, name: str = "images.tar", top: str = ".") -> Path:
        kind = name.rpartition(".")[2]
        with tarfile.open(tmp_path / name, "w" if kind == "tar" else f"w:{kind}") as archive:
            archive.add(root, top)
        return tmp_path / name

    return pack


@pytest.fixture
def load_from(tmp_path: Path) -> Callable[..., ImageSet]:
    """Return a function that loads an image folder with a cache in the test's own folder."""

    def load_from(path: Path, size: int = 12) -> ImageSet:
        return load(DataOptions(path, False, size, tmp_path / "cache"))

    return load_from


@pytest.fixture
def refusal(load_from: Callable[..., ImageSet]) -> Callable[[Path], str]:
    """Return a function that gives the one-line message with which a path is refused."""

    def refusal(path: Path) -> str:
        with pytest.raises(DataError) as caught:
            load_from(path)
        text = str(caught.value)
        assert "\n" not in text
        return text

    return refusal

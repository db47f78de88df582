"""Which images count: none is left out without a word, none counts twice without a word."""

import io
import logging
import os
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foldbench.bench.datasets import flat, imagefolder
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet, Split
from foldbench.bench.images.repeats import find_repeats
from foldbench.bench.store.files import json_sha256

RANDOM = np.random.default_rng(0)


def encoded(kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


Write = Callable[..., Path]
SPLITS = ("train", "test")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with two images each in both splits."""
    root = tmp_path / "images"
    for place in (f"{split}/{name}" for split in SPLITS for name in ("cat", "dog")):
        (root / place).mkdir(parents=True)
        for number in range(2):
            (root / place / f"{number}.png").write_bytes(encoded())
    return root


def load(path: Path, skip_bad: bool = False) -> ImageSet:
    options = DataOptions(path, False, 8, path.parent / "cache", skip_bad=skip_bad)
    return imagefolder.load(options)


def packed(root: Path) -> Path:
    path = root.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        archive.add(root, ".")
    return path


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize(
    "suffix", [".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".JFIF", ".JPG", ".pjpeg"]
)
def test_a_jpeg_counts_whatever_its_suffix(root: Path, form: str, suffix: str) -> None:
    (root / "train/cat" / f"more{suffix}").write_bytes(encoded("JPEG"))
    assert load(root if form == "folder" else packed(root)).info.train_count == 5


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_files_that_are_left_out_are_counted_by_reason(root: Path, form: str) -> None:
    for name in ("a.avif", "b.avif", "notes.txt", "none"):
        (root / "train/cat" / name).write_bytes(b"x")
    (root / "README").write_bytes(b"x")
    (root / "train/lost.png").write_bytes(encoded())
    for _ in range(2):  # decoded, then mapped from the cache
        skipped = load(root if form == "folder" else packed(root)).info.skipped
        expected = {".avif": 2, ".txt": 1, "no suffix": 1, "outside of the class folders": 1}
        assert expected.items() <= skipped.items()


def test_links_in_an_archive_are_counted(root: Path) -> None:
    os.link(root / "train/cat/0.png", root / "train/cat/9.png")
    os.symlink("0.png", root / "train/cat/8.png")
    info = load(packed(root)).info
    assert (info.train_count, info.skipped["link"]) == (4, 2)


def test_a_link_to_nowhere_is_an_image_that_cannot_be_read(root: Path) -> None:
    os.symlink("nowhere.png", root / "train/cat/9.png")
    with pytest.raises(DataError, match=r"9\.png .*--skip-bad"):
        load(root)
    info = load(root, skip_bad=True).info
    assert (info.train_count, info.skipped) == (4, {"damaged": 1})


def test_nothing_is_said_where_nothing_is_left_out(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(root)
    load(packed(root))
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.skipif(os.name == "nt", reason="needs names of any bytes")
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_names_that_are_not_utf_8_are_escaped(root: Path, form: str) -> None:
    for split in SPLITS:
        os.rename(root / split / "cat", os.fsencode(root / split) + b"/caf\xe9")
        os.rename(
            os.fsencode(root / split) + b"/caf\xe9/0.png",
            os.fsencode(root / split) + b"/caf\xe9/\xff.png",
        )
    info = load(root if form == "folder" else packed(root)).info
    assert info.classes == ("caf\\xe9", "dog")
    assert info.model_dump_json()


def test_flat_names_that_are_not_utf_8_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for number in range(10):
        name = f"{'a' if number % 2 else 'b'}_{number}".encode() + b"\xe9.png"
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(encoded())
    options = DataOptions(folder, False, 8, tmp_path / "cache", label_pattern="(.)_")
    assert flat.load(options).info.model_dump_json()


def test_a_class_that_unicode_spells_in_two_ways_is_one_class(root: Path) -> None:
    (root / "train/cat").rename(root / "train" / unicodedata.normalize("NFC", "chaté"))
    (root / "test/cat").rename(root / "test" / unicodedata.normalize("NFD", "chaté"))
    assert load(root).info.classes == (unicodedata.normalize("NFC", "chaté"), "dog")


def test_two_folders_of_one_class_are_refused(root: Path) -> None:
    (root / "train/cat").rename(root / "train" / unicodedata.normalize("NFC", "chaté"))
    (root / "train/dog").rename(root / "train" / unicodedata.normalize("NFD", "chaté"))
    with pytest.raises(DataError, match="spells in two ways"):
        load(root)


def split_of(*pairs: tuple[int, int]) -> Split:
    """Images of one value each, and their labels."""
    images = np.array([np.full((3, 2, 2), value, np.uint8) for value, _ in pairs])
    return Split(images, np.array([label for _, label in pairs], np.int64))


@pytest.mark.parametrize(
    ("train", "test", "both", "two"),
    [
        ([(1, 0), (2, 1)], [(3, 0), (4, 1)], 0, 0),
        ([(1, 0), (2, 1)], [(1, 0), (4, 1)], 1, 0),
        ([(1, 0), (2, 1)], [(1, 0), (1, 0)], 2, 0),
        ([(1, 0), (1, 1)], [(3, 0), (4, 1)], 0, 2),
        ([(1, 0), (2, 1)], [(1, 1), (4, 1)], 1, 2),
        ([(1, 0), (1, 0)], [(3, 0), (4, 1)], 0, 0),
    ],
)
def test_images_that_are_there_twice_are_counted(train, test, both, two) -> None:
    found = find_repeats(split_of(*train), split_of(*test))
    assert (found.tested_and_trained, found.of_two_classes) == (both, two)
    line = found.describe() or ""
    assert [word in line for word in ("unseen", "right")] == [both > 0, two > 0]


@pytest.mark.parametrize(("repeated", "loud"), [(1, False), (2, False), (3, True)])
def test_more_than_one_in_a_hundred_is_said_loudly(repeated: int, loud: bool) -> None:
    test = split_of(*((n, 0) for n in range(200)))
    train = split_of(*((n, 0) for n in range(repeated)), (255, 1))
    line = find_repeats(train, test).describe()
    assert line is not None
    assert line.startswith("WARNING") == loud


@pytest.mark.parametrize("name", ["test-labels", "train-labels", "test-images", "train-images"])
def test_a_cache_whose_bytes_were_changed_is_made_again(
    root: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = load(root)
    sha256 = before.info.sha256
    (path,) = (root.parent / "cache").rglob(f"{name}.npy")
    array = np.load(path)
    np.save(path, array[::-1].copy())
    after = load(root)
    assert after.info.sha256 == sha256
    assert not after.info.from_cache
    assert any("decoding again" in message for message in caplog.messages)
    assert json_sha256(after.test.labels.tolist()) == json_sha256(before.test.labels.tolist())

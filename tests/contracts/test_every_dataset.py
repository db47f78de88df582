"""Whatever is a file in bench/datasets/ keeps the promises of the protocol."""

import hashlib
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foldbench.bench.images.image_set import DataOptions, ImageSet, Split
from foldbench.bench.registry import DATASETS

CACHING = {"imagefolder", "flat", "images", "oxford_pets"}
UNLABELLED = {"noise"}
OPTIONS = {"flat": {"label_pattern": r"(.+)_\d+"}}
SIZES = (8, 20)


def make_imagefolder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for class_name in ("cat", "dog"):
            place = folder / "images" / split / class_name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (20, 20, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{index}.png")
    with tarfile.open(folder / "images.tar", "w") as archive:
        archive.add(folder / "images", ".")
    return folder / "images.tar"


def make_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write tiny files in the form of torchvision's, and have torchvision accept their md5."""
    from torchvision.datasets import CIFAR10

    random = np.random.default_rng(0)
    batches = folder / CIFAR10.base_folder
    batches.mkdir(parents=True)

    def write(name: str, value: object) -> str:
        content = pickle.dumps(value)
        (batches / name).write_bytes(content)
        return hashlib.md5(content).hexdigest()

    def write_batch(name: str) -> list[str]:
        pixels = random.integers(0, 256, (10, 3072), np.uint8)
        return [name, write(name, {"data": pixels, "labels": list(range(10))})]

    monkeypatch.setattr(CIFAR10, "train_list", [write_batch("one"), write_batch("two")])
    monkeypatch.setattr(CIFAR10, "test_list", [write_batch("three")])
    names = [f"class {index}" for index in range(10)]
    md5 = write("names", {"label_names": names})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "names", "key": "label_names", "md5": md5})
    return folder


def make_flat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for class_name in ("great_cat", "dog"):
        for index in range(10):
            pixels = random.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{class_name}_{index}.png")
    return folder


def make_digits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    return None


SOURCES: dict[str, Callable[[Path, pytest.MonkeyPatch], Path | None]] = {
    "cifar10": make_cifar10,
    "digits": make_digits,
    "flat": make_flat,
    "imagefolder": make_imagefolder,
    "images": make_imagefolder,
    "noise": make_digits,
    "oxford_pets": make_flat,
}
Load = Callable[[int], ImageSet]


@pytest.fixture(params=DATASETS.names())
def load(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load one registered data set at an image size, from a tiny source of its own."""
    name = request.param
    if name not in SOURCES:
        pytest.fail(f"add a tiny source for {name!r} to SOURCES in {Path(__file__).name}")
    path = SOURCES[name](tmp_path / "source", monkeypatch)
    module, options = DATASETS.load(name), OPTIONS.get(name, {})
    return lambda size: module.load(DataOptions(path, False, size, tmp_path / "cache", **options))


def splits_of(loaded: ImageSet) -> list[Split]:
    return [split for split in (loaded.train, loaded.test) if split is not None]


def test_every_registered_dataset_has_a_source_here_and_no_other() -> None:
    assert set(SOURCES) == set(DATASETS.names())


@pytest.mark.parametrize("size", SIZES)
def test_the_arrays_have_the_promised_shapes_and_types(load: Load, size: int) -> None:
    loaded = load(size)
    for split in splits_of(loaded):
        assert split.images.dtype == np.uint8
        assert split.images.shape == (len(split), 3, size, size)
        assert split.images.flags.c_contiguous
        if loaded.info.labelled:
            assert split.labels.dtype == np.int64
            assert split.labels.shape == (len(split),)
        else:
            assert split.labels is None
        assert len(np.unique(split.images)) > 2


def test_every_class_is_in_both_splits_and_no_label_is_out_of_range(load: Load) -> None:
    loaded = load(8)
    expected = np.arange(len(loaded.info.classes))
    for split in splits_of(loaded) if loaded.info.labelled else ():
        np.testing.assert_array_equal(np.unique(split.labels), expected)


def test_the_info_says_what_the_arrays_are(load: Load) -> None:
    loaded = load(8)
    assert loaded.info.name in DATASETS.names()
    assert loaded.info.title
    assert loaded.info.train_count == (len(loaded.train) if loaded.train else 0)
    assert loaded.info.test_count == len(loaded.test)
    least = 0 if loaded.info.name in UNLABELLED else 2
    assert len(set(loaded.info.classes)) == len(loaded.info.classes) >= least
    assert loaded.info.labelled == (loaded.info.name not in UNLABELLED)
    assert loaded.info.decode_s >= 0


def test_a_second_load_gives_the_same_images_from_the_cache_where_there_is_one(load: Load) -> None:
    first, second = load(8), load(8)
    assert not first.info.from_cache
    assert second.info.from_cache == (second.info.name in CACHING)
    assert first.info.sha256 == second.info.sha256
    for a, b in zip(splits_of(first), splits_of(second), strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_another_size_is_another_sha256(load: Load) -> None:
    assert load(8).info.sha256 != load(20).info.sha256


def test_listing_needs_no_import_and_has_a_sentence_for_each() -> None:
    assert all(len(DATASETS.summary(name)) > 20 for name in DATASETS.names())

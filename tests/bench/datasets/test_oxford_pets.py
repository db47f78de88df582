"""Oxford-IIIT Pet in torchvision's folder, and images of it alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foldbench.bench.datasets import oxford_pets
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet

BREEDS = ("Abyssinian", "american_bulldog", "american_pit_bull_terrier")


def make_pets(root: Path, count: int = 6) -> Path:
    """Write torchvision's folder: half of each breed is for training; one image is in no list."""
    base = root / "oxford-iiit-pet"
    (base / "images").mkdir(parents=True)
    (base / "annotations").mkdir()
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for number, breed in enumerate(BREEDS, start=1):
        for n in range(count):
            image = Image.new("RGB", (12, 10), (10 * n, 40 * number, 0))
            image.save(base / "images" / f"{breed}_{n}.jpg", quality=95)
            lists["trainval" if n % 2 else "test"].append(f"{breed}_{n} {number} 1 1")
    Image.new("RGB", (9, 9)).save(base / "images" / "Abyssinian_99.jpg")
    for name, lines in lists.items():
        (base / "annotations" / f"{name}.txt").write_text("\n".join(["#Image CLASS", *lines]))
    return root


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., ImageSet]:
    def load(path: Path | None, **options: object) -> ImageSet:
        download = bool(options.pop("download", False))
        return oxford_pets.load(DataOptions(path, download, 8, tmp_path / "cache", **options))

    return load


def test_the_published_lists_are_the_split(load, tmp_path: Path) -> None:
    for path in (make_pets(tmp_path / "root"), tmp_path / "root" / "oxford-iiit-pet"):
        found = load(path)
        assert found.info.title == "Oxford-IIIT Pet"
        assert found.info.original
        assert found.info.classes == tuple(sorted(BREEDS))
        assert (found.info.train_count, found.info.test_count) == (9, 9)
        reds = found.test.images[:, 0].reshape(9, -1).mean(1).round(-1).astype(int)
        assert sorted(reds.tolist()) == sorted([0, 20, 40] * 3)


def test_a_random_split_draws_from_all_images_with_the_first_word_as_label(
    load, tmp_path: Path
) -> None:
    found = load(make_pets(tmp_path / "root"), split="random", label_pattern="([^._]+)")
    assert found.info.classes == ("Abyssinian", "american")
    assert found.info.train_count + found.info.test_count == 19
    assert not found.info.original


def test_images_alone_are_split_by_class(load, tmp_path: Path, pack) -> None:
    images = make_pets(tmp_path / "root") / "oxford-iiit-pet" / "images"
    for path in (images, pack(images, "sample.tar", "images")):
        found = load(path)
        assert "stratified split" in found.info.title
        assert found.info.classes == tuple(sorted(BREEDS))
        assert set(np.unique(found.test.labels)) == {0, 1, 2}


def test_a_listed_image_that_is_missing_is_named(load, tmp_path: Path) -> None:
    root = make_pets(tmp_path / "root")
    (root / "oxford-iiit-pet" / "images" / "Abyssinian_2.jpg").unlink()
    with pytest.raises(DataError, match=r"Abyssinian_2\.jpg cannot be read"):
        load(root)


def test_missing_lists_are_named(load, tmp_path: Path) -> None:
    root = make_pets(tmp_path / "root")
    (root / "oxford-iiit-pet" / "annotations" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"test\.txt cannot be read"):
        load(root)


def test_nothing_is_fetched_without_leave(load, tmp_path: Path, monkeypatch) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(oxford_pets, "OxfordIIITPet", refuse)
    for path in (None, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"data\.download=true"):
            load(path)


def test_a_failed_download_is_one_line(load, tmp_path: Path, monkeypatch) -> None:
    def fail(**_: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(oxford_pets, "OxfordIIITPet", fail)
    with pytest.raises(DataError, match="cannot download Oxford-IIIT Pet") as caught:
        load(tmp_path / "nowhere", download=True)
    assert "\n" not in str(caught.value)

"""Layouts and what is wrong with them; single images are in test_pixels.py."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foldbench.bench.datasets.imagefolder import load
from foldbench.bench.errors import DataError
from foldbench.bench.images import sources
from foldbench.bench.images.folders import CIFAR10_CLASSES, title
from foldbench.bench.images.image_set import DataOptions, ImageSet

Load = Callable[..., ImageSet]
Make = Callable[..., Path]
Refusal = Callable[[Path], str]


def test_pixels_come_sorted_by_class_and_then_by_name(make_folder: Make, load_from: Load) -> None:
    root = make_folder(count=3)
    loaded = load_from(root)
    assert loaded.info.classes == ("cat", "dog")
    assert loaded.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    expected = np.asarray(Image.open(root / "train/dog/1.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(loaded.train.images[4], expected)


def test_a_loaded_split_is_a_read_only_memory_map(make_folder: Make, load_from: Load) -> None:
    images = load_from(make_folder()).train.images
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable


def test_hidden_files_and_other_files_are_passed_over(
    make_folder: Make, pack: Make, load_from: Load
) -> None:
    root = make_folder()
    plain = load_from(root).info.sha256
    (root / "train/cat/._0.png").write_bytes(b"resource fork")
    (root / "train/cat/notes.txt").write_text("no image")
    (root / "train/.DS_Store").write_bytes(b"x")
    (root / "train/readme.png").write_bytes(b"in no class folder")
    for hidden in ("__MACOSX/train/cat", "train/.hidden", "train/cat/.thumbs"):
        (root / hidden).mkdir(parents=True)
        (root / hidden / "9.png").write_bytes(b"x")
    assert load_from(root).info.sha256 == plain
    assert load_from(pack(root)).info.sha256 == plain


def test_suffixes_count_in_any_case_and_in_subfolders(make_folder: Make, load_from: Load) -> None:
    root = make_folder()
    (root / "train/cat/0.png").rename(root / "train/cat/0.PNG")
    (root / "train/dog/more/deep").mkdir(parents=True)
    (root / "train/dog/1.png").rename(root / "train/dog/more/deep/1.png")
    assert load_from(root).info.train_count == 4


def test_val_is_the_test_split_only_where_there_is_no_test(
    make_folder: Make, pack: Make, load_from: Load
) -> None:
    places = ("train/cat", "train/dog", "val/cat", "val/dog")
    root = make_folder(places)
    validated = load_from(root)
    assert load_from(pack(root)).info.sha256 == validated.info.sha256
    make_folder(("test/cat", "test/dog"), count=1)
    assert load_from(root).info.test_count == 2
    assert load_from(pack(root, "three.tar")).info.test_count == 2


def test_a_copy_of_cifar10_is_called_one() -> None:
    counts = (50_000, 10_000)
    assert title("x.tar", CIFAR10_CLASSES, counts, ("JPEG",)) == "CIFAR-10 (JPEG copy)"
    assert title("x.tar", CIFAR10_CLASSES, counts, ("PNG",)) == "CIFAR-10 (copy as image files)"
    assert title("x.tar", CIFAR10_CLASSES, (50_000, 9_999), ("JPEG",)) == "x.tar"
    assert title("x.tar", (*CIFAR10_CLASSES[:9], "van"), counts, ("JPEG",)) == "x.tar"


LAYOUTS = [
    ((), r"has no train/ and no test/ folder \(found: nothing\); allowed: a folder that holds"),
    (("photos/cat",), r"has no train/ and no test/ folder \(found: photos\)"),
    (("train/cat", "train/dog"), r"has no test/ folder \(found: train\)"),
    (("test/cat", "test/dog"), r"has no train/ folder \(found: test\)"),
    (("train", "test"), r"train/ has no class folders.*folder with the name of the class"),
    (("train/cat", "test/cat"), "has images of one class only \\(cat\\); a classifier needs two"),
    (
        ("train/cat", "train/dog", "train/emu", "test/cat", "test/dog", "test/fox"),
        "classes of train/ and test/ differ: emu only in train/; fox only in test/",
    ),
    (
        ("train/cat", "train/dog", "val/cat", "val/fox"),
        "classes of train/ and val/ differ: dog only in train/; fox only in val/",
    ),
]


@pytest.mark.parametrize(("places", "expected"), LAYOUTS)
@pytest.mark.parametrize("archived", [False, True])
def test_a_wrong_layout_is_explained(
    make_folder: Make,
    pack: Make,
    load_from: Load,
    places: tuple[str, ...],
    expected: str,
    archived: bool,
) -> None:
    root = make_folder(places)
    with pytest.raises(DataError, match=expected):
        load_from(pack(root) if archived else root)


@pytest.mark.parametrize("archived", [False, True])
def test_an_empty_class_is_named(
    make_folder: Make, pack: Make, refusal: Refusal, archived: bool
) -> None:
    root = make_folder()
    for path in (root / "test/dog").iterdir():
        path.rename(path.with_suffix(".heic"))
    text = refusal(pack(root) if archived else root)
    assert re.search(r"test/ .* dog; .*\.jpg \.jpeg \.png", text)


def test_long_lists_of_class_names_are_cut(make_folder: Make, refusal: Refusal) -> None:
    names = [f"train/{letter}" for letter in "abcdefghij"]
    text = refusal(make_folder((*names, "test/a", "test/b"), count=1))
    assert "c, d, e, f, g and 3 more " in text


def test_no_path_at_all_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="imagefolder .*--data PATH"):
        load(DataOptions(None, False, 8, tmp_path))


def test_a_path_that_does_not_exist_is_named(tmp_path: Path, refusal: Refusal) -> None:
    assert str(tmp_path / "gone") in refusal(tmp_path / "gone")


def test_a_device_is_no_source(refusal: Refusal) -> None:
    assert os.devnull in refusal(Path(os.devnull))


def test_a_huge_file_is_refused_before_it_is_read(
    make_folder: Make, pack: Make, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LARGEST_FILE_BYTES", 300)
    root = make_folder()
    for source in (root, pack(root)):
        assert re.search(r"\w+/\w+/\d\.png .*too large", refusal(source))


def test_what_may_not_be_read_is_named(
    make_folder: Make, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder()
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    text = refusal(root)
    assert "train/cat/1.png cannot be read: " in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_class_folder_without_permission_is_named(make_folder: Make, refusal: Refusal) -> None:
    root = make_folder()
    (root / "train/cat").chmod(0)
    try:
        assert "train/cat cannot be read: " in refusal(root)
    finally:
        (root / "train/cat").chmod(0o755)


def test_a_broken_link_is_an_error_and_not_one_image_less(
    make_folder: Make, refusal: Refusal
) -> None:
    root = make_folder()
    os.symlink("nowhere", root / "train/cat/5.png")
    assert "train/cat/5.png cannot be read: " in refusal(root)

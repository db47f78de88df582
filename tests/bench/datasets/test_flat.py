"""Images side by side, named after their class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import train_test_split

from foldbench.bench.datasets import flat
from foldbench.bench.errors import BenchError, ConfigError, DataError
from foldbench.bench.images.flat import LabelRule, draw_split
from foldbench.bench.images.image_set import DataOptions, ImageSet
from foldbench.bench.records import Resize

BREED = r"(.+)_\d+\."
FIRST_WORD = r"([^._]+)"
BREEDS = ("Bengal", "american_bulldog", "american_pit_bull")


def make(folder: Path, breeds: tuple[str, ...] = BREEDS, count: int = 10) -> Path:
    """Write `count` images of each breed, whose red says which image it is."""
    folder.mkdir(parents=True)
    for b, breed in enumerate(breeds):
        for n in range(count):
            image = Image.new("RGB", (12, 10), (10 * n, 100 * b, 0))
            image.paste("white", (0, 0, 1, 10))  # cut off when the image covers the square
            image.save(folder / f"{breed}_{n}.png")
    return folder


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., ImageSet]:
    def load(path: Path | None, **options: object) -> ImageSet:
        options = {"label_pattern": BREED, **options}
        return flat.load(DataOptions(path, False, 8, tmp_path / "cache", **options))

    return load


def test_the_group_of_the_rule_is_the_class(load, tmp_path: Path) -> None:
    path = make(tmp_path / "images")
    assert load(path).info.classes == tuple(sorted(BREEDS))
    assert load(path, label_pattern=FIRST_WORD).info.classes == ("Bengal", "american")


def test_a_random_split_is_scikit_learns_over_the_sorted_names_and_keeps_its_order(
    load, tmp_path: Path
) -> None:
    found = load(make(tmp_path / "images"), split="random", test_fraction=0.3, split_seed=42)
    names = sorted(f"{breed}_{n}" for breed in BREEDS for n in range(10))
    train, test = train_test_split(names, test_size=0.3, random_state=42)
    for split, expected in ((found.train, train), (found.test, test)):
        reds = [10 * int(name.rpartition("_")[2]) for name in expected]
        assert split.images[:, 0, 4, 4].tolist() == reds
        labels = [sorted(BREEDS).index(name.rpartition("_")[0]) for name in expected]
        assert split.labels.tolist() == labels


def test_a_stratified_split_has_the_same_share_of_each_class(load, tmp_path: Path) -> None:
    found = load(make(tmp_path / "images"))
    assert np.bincount(found.test.labels).tolist() == [2, 2, 2]
    assert np.bincount(found.train.labels).tolist() == [8, 8, 8]


def test_an_archive_and_a_folder_give_the_same_images(load, pack, tmp_path: Path) -> None:
    folder = make(tmp_path / "images")
    from_folder, from_archive = load(folder), load(pack(folder, "images.tar.gz", "images"))
    assert from_folder.info.sha256 == from_archive.info.sha256


def test_the_second_load_comes_from_the_cache_and_another_rule_does_not(
    load, tmp_path: Path
) -> None:
    path = make(tmp_path / "images")
    assert not load(path).info.from_cache
    assert load(path).info.from_cache
    for changed in (
        {"label_pattern": FIRST_WORD},
        {"split": "random"},
        {"split_seed": 1},
        {"test_fraction": 0.5},
        {"resize": Resize(stretch=True)},
    ):
        assert not load(path, **changed).info.from_cache, changed


def test_the_test_files_are_known_at_whatever_size_they_are_decoded(load, tmp_path: Path) -> None:
    path = make(tmp_path / "images")
    whole, stretched = load(path), load(path, resize=Resize(stretch=True))
    assert whole.info.sha256 != stretched.info.sha256
    assert whole.info.test_files_sha256 == stretched.info.test_files_sha256
    assert load(path, split_seed=7).info.test_files_sha256 != whole.info.test_files_sha256


def test_the_title_says_how_it_was_split(load, tmp_path: Path) -> None:
    title = load(make(tmp_path / "images"), split="random").info.title
    assert "random split" in title
    assert "seed 42" in title


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        ((), {}, ("holds no images",)),
        (("Bengal_1", "Bengal_2"), {}, ("one class only (Bengal)", "add images")),
        (("Bengal_1", "cat"), {}, ("cat.png", "no class in the name", "data.label_pattern")),
        (("Bengal_1", "cat_2"), {}, ("cannot split 2 images",)),
        (("Bengal_1", "cat_2"), {"label_pattern": "(.+"}, ("no regular expression",)),
        (("Bengal_1", "cat_2"), {"label_pattern": "cat"}, ("0 groups", "allowed: one")),
        (("Bengal_1", "cat_2"), {"label_pattern": "(x?)"}, ("no class in the name",)),
        (("Bengal_1", "cat_2"), {"label_pattern": None}, ("set data.label_pattern",)),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(
    load, tmp_path: Path, files, options, words
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in files:
        Image.new("RGB", (4, 4)).save(folder / f"{name}.png")
    with pytest.raises(BenchError) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_class_without_a_test_image_is_named(load, tmp_path: Path) -> None:
    folder = make(tmp_path / "images", ("a", "b"), 20)
    Image.new("RGB", (4, 4)).save(folder / "rare_0.png")
    with pytest.raises(DataError, match="rare"):
        load(folder, split="random")


def test_a_path_that_is_missing_is_refused(load, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="--data PATH"):
        load(None)


def test_a_truncated_image_is_named(load, tmp_path: Path) -> None:
    folder = make(tmp_path / "images")
    damaged = folder / "Bengal_3.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(DataError, match=r"Bengal_3\.png is"):
        load(folder)


@given(
    counts=st.lists(st.integers(5, 20), min_size=2, max_size=5),
    fraction=st.floats(0.2, 0.6),
    seed=st.integers(0, 99),
    stratified=st.booleans(),
)
def test_a_split_takes_every_image_once(counts, fraction, seed, stratified) -> None:
    labels = [str(c) for c, count in enumerate(counts) for _ in range(count)]
    options = DataOptions(None, False, 8, Path(), test_fraction=fraction, split_seed=seed)
    train, test = draw_split(labels, labels, options=options, stratified=stratified)
    assert sorted([*train, *test]) == list(range(len(labels)))


@given(st.text(min_size=1, max_size=20))
def test_a_rule_reads_a_class_or_says_that_there_is_none(name: str) -> None:
    rule = LabelRule.parse(BREED)
    try:
        label = rule.read(name, "here")
    except DataError:
        return
    assert name.startswith(f"{label}_")


def test_a_rule_needs_one_group() -> None:
    with pytest.raises(ConfigError, match="2 groups"):
        LabelRule.parse("(a)(b)")


def test_class_folders_are_never_read_by_file_names(load, tmp_path: Path) -> None:
    for split in ("train", "val"):
        make(tmp_path / "images" / split)
    with pytest.raises(DataError, match=r"data\.name to images"):
        load(tmp_path / "images")

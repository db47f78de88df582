"""Every form in which a user's images lie is recognised, said, and read into the right classes."""

import gc
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foldbench.bench.config.data import DataSection
from foldbench.bench.datasets.images import load
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet
from foldbench.bench.images.loading import load_data
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Resize

COLOURS = {"cat": (255, 0, 0), "dog": (0, 255, 0), "emu": (0, 0, 255)}


def write(root: Path, *places: str) -> Path:
    """Write an image at each path, in the colour of the class in its name."""
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = next((c for name, c in COLOURS.items() if name in place), (9, 9, 9))
        Image.new("RGB", (12, 12), colour).save(path)
    return root


def read(path: Path, **options: object) -> ImageSet:
    return load(DataOptions(path, False, 8, path.parent / "cache", **options))


def check(images: ImageSet, **classes: int) -> None:
    """Check how many test images of each class there are, and that each is of its colour."""
    names, labels = images.info.classes, images.test.require_labels()
    assert {names[n]: int((labels == n).sum()) for n in np.unique(labels)} == classes
    for pixels, label in zip(images.test.images, labels, strict=True):
        assert tuple(pixels[:, 4, 4]) == COLOURS[names[label]]


def zipped(root: Path, top: str = "") -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in root.rglob("*") if p.is_file()):
            archive.write(file, str(Path(top) / file.relative_to(root)))
    return path


def tarred(root: Path, top: str = ".") -> Path:
    path = root.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root, top)
    return path


@pytest.mark.parametrize("pack", [lambda root: root, zipped, tarred], ids=["folder", "zip", "tar"])
def test_class_folders_alone_are_the_test_split(tmp_path: Path, pack: Callable) -> None:
    root = write(tmp_path / "photos", "cat/1.png", "cat/2.png", "dog/deep/1.PNG", "readme.png")
    (root / "notes.txt").write_text("x")
    packed = pack(root)
    for _ in range(2):
        images = read(packed)
        check(images, cat=2, dog=1)
        assert images.train is None
        assert images.info.skipped == {"image in no class folder": 1, ".txt": 1}
        assert "2 class folders" in str(images.info.form)
    assert images.info.from_cache


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_one_folder_around_everything_says_nothing(tmp_path: Path, pack: Callable) -> None:
    root = write(tmp_path / "p", "cat/1.png", "dog/1.png")
    check(read(pack(root, "some/where")), cat=1, dog=1)


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "val"), ("Train", "TEST"), ("training", "valid"), ("TRAIN", "Validation")],
)
def test_splits_are_known_by_name_in_any_case(tmp_path: Path, train: str, test: str) -> None:
    places = (f"{train}/cat/1.png", f"{train}/dog/1.png", f"{train}/emu/1.png", f"{test}/emu/1.png")
    images = read(write(tmp_path / "p", *places))
    check(images, emu=1)
    assert images.info.classes == ("cat", "dog", "emu")
    assert len(images.require_train("training")) == images.info.train_count == 3
    measured = read(tmp_path / "p", needs_train=False)
    assert measured.train is None
    assert measured.info.train_count == 3
    assert measured.info.sha256 == images.info.sha256


def test_a_test_split_alone_is_enough_to_measure_and_not_to_train(tmp_path: Path) -> None:
    images = read(write(tmp_path / "p", "val/cat/1.png", "val/dog/1.png"))
    check(images, cat=1, dog=1)
    with pytest.raises(DataError, match="training"):
        images.require_train("training")


def test_classes_called_like_splits_are_classes(tmp_path: Path) -> None:
    root = write(tmp_path / "p", "cat/1.png", "train/1.png", "dog/1.png")
    assert read(root).info.classes == ("cat", "dog", "train")


@pytest.mark.parametrize("pack", [lambda root: root, zipped, tarred], ids=["folder", "zip", "tar"])
def test_images_without_folders_have_no_labels(tmp_path: Path, pack: Callable) -> None:
    images = read(pack(write(tmp_path / "p", "a.png", "b.png")))
    assert (len(images.test), images.test.labels, images.info.labelled) == (2, None, False)
    assert "without labels" in str(images.info.form)


REFUSED = [
    (("train/cat/1.png", "train/dog/1.png"), "train/ and neither test/ nor val/"),
    (("a.png", "b.png", "cat/1.png"), "could be either"),
    (("val/cat/1.png", "valid/cat/1.png"), "holds both val/ and valid/, which are one split"),
    (("train/cat/1.png", "test/dog/1.png"), r"test/ has classes that train/ has not \(dog\)"),
]


@pytest.mark.parametrize(("places", "expected"), REFUSED)
def test_what_could_be_two_things_is_refused(
    tmp_path: Path, places: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        read(write(tmp_path / "p", *places))


@pytest.mark.parametrize(
    "text",
    [
        "path,label\nx/cat1.png,cat\nx/dog1.png,dog\n",
        "x/cat1.png,cat\nx/dog1.png,dog\n",
        "x/cat1.png;cat\r\nx/dog1.png;dog\r\n",
        "id,class,filename\n1,cat,x/cat1.png\n2,dog,x/dog1.png\n",
        "\ufefffile,label\n\nx/cat1.png, cat\nx/dog1.png, dog",
    ],
)
def test_a_table_lists_images_with_or_without_a_header(tmp_path: Path, text: str) -> None:
    write(tmp_path, "x/cat1.png", "x/dog1.png")
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    check(read(tmp_path / "t.csv"), cat=1, dog=1)


def test_a_table_of_paths_alone_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path, "cat1.png")
    (tmp_path / "t.csv").write_text("path\ncat1.png\n")
    assert read(tmp_path / "t.csv").test.labels is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "lists no images"),
        ("path,label\n", "lists no images"),
        ("a,b,c\n1,2,3\n", "3 columns and no header"),
        ("cat1.png,cat\ncat1.png\n", "line 2 has 1 columns"),
        ("cat1.png,cat\ncat1.png,\n", "1/2 lines have no label"),
        ("path,size\ncat1.png,3\n", "none for labels"),
    ],
)
def test_a_table_of_another_form_is_explained(tmp_path: Path, text: str, expected: str) -> None:
    write(tmp_path, "cat1.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=expected):
        read(tmp_path / "t.csv")


def pixels(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("data", "targets")])
@pytest.mark.parametrize("shape", [(8, 8, 3), (3, 8, 8)])
def test_arrays_are_read_in_either_order_of_axes(
    tmp_path: Path, names: tuple[str, str], shape: tuple[int, ...]
) -> None:
    found = pixels(4, *shape)
    np.savez(tmp_path / "a.npz", **{names[0]: found, names[1]: np.array([0, 1, 2, 1])})
    images = read(tmp_path / "a.npz")
    expected = found if shape[0] == 3 else found.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(images.test.images, expected)
    assert images.info.classes == ("0", "1", "2")
    assert images.info.test_files_sha256 is not None


def test_arrays_are_the_same_images_however_networks_have_them_resized(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=pixels(4, 12, 12, 3), labels=np.array([0, 1, 2, 1]))
    ways = (Resize(), Resize(shorter_side=10), Resize(stretch=True))
    infos = [read(tmp_path / "a.npz", resize=way).info for way in ways]
    assert len({info.test_files_sha256 for info in infos}) == 1
    assert infos[0].sha256 != infos[1].sha256
    np.savez(tmp_path / "a.npz", images=pixels(4, 12, 12, 3)[::-1], labels=np.array([0, 1, 2, 1]))
    assert read(tmp_path / "a.npz").info.test_files_sha256 != infos[0].test_files_sha256


def test_float32_arrays_are_taken_as_they_are(tmp_path: Path) -> None:
    found = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "a.npy", found)
    images = read(tmp_path / "a.npy")
    np.testing.assert_array_equal(images.test.images, found)
    assert images.info.preprocessed
    assert images.test.labels is None


def test_grey_arrays_fit_networks_of_one_and_of_three_channels(tmp_path: Path) -> None:
    found = pixels(2, 16, 16)
    np.save(tmp_path / "a.npy", found)
    assert read(tmp_path / "a.npy", channels=1).test.images.shape == (2, 1, 8, 8)
    rgb = read(tmp_path / "a.npy").test.images
    np.testing.assert_array_equal(rgb[:, 0], rgb[:, 2])


def test_arrays_of_any_number_of_channels_are_read_at_the_networks_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels(2, 5, 8, 8))
    assert read(tmp_path / "a.npy", channels=5).test.images.shape == (2, 5, 8, 8)


BAD_ARRAYS = [
    ({"images": np.zeros((2, 3, 8, 8))}, "images are float64"),
    ({"images": np.zeros((2, 3, 9, 9), np.float32)}, r"network's input is \(N, 3, 8, 8\)"),
    ({"images": np.full((2, 3, 8, 8), np.nan, np.float32)}, "NaN"),
    ({"images": pixels(2, 7, 8, 9)}, "cannot be told"),
    ({"images": pixels(2, 3, 8, 8), "y": np.array([0, -1])}, "a label is -1"),
    ({"images": np.zeros((0, 3, 8, 8), np.float32)}, "has no images"),
    ({"images": pixels(2, 3, 8, 8), "y": np.array([0.5, 1])}, "labels are float64"),
    ({"weights": pixels(2, 3, 8, 8)}, r"has no images \(found: weights\)"),
]


@pytest.mark.parametrize(("arrays", "expected"), BAD_ARRAYS)
def test_arrays_of_another_form_are_explained(tmp_path: Path, arrays: dict, expected: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=expected):
        read(tmp_path / "a.npz")


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="holds Python objects"):
        read(tmp_path / "a.npy")


def test_a_function_of_the_users_yields_batches(tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_text(
        "import numpy as np\n"
        "def make():\n"
        "    print('{hello')\n"
        "    for n in (2, 3):\n"
        "        yield np.full((n, 3, 8, 8), n, np.uint8), np.arange(n)\n"
        "def broken():\n"
        "    raise KeyError('no such file')\n"
        "def ends():\n"
        "    import os; os._exit(3)\n"
    )
    images = read(Path(f"{tmp_path}/loader.py:make"))
    assert images.test.images[:, 0, 0, 0].tolist() == [2, 2, 3, 3, 3]
    assert images.test.require_labels().tolist() == [0, 1, 0, 1, 2]
    for name, expected in (("broken", "KeyError"), ("ends", "exit code 3"), ("gone", "gone")):
        with pytest.raises(DataError, match=expected) as caught:
            read(Path(f"{tmp_path}/loader.py:{name}"))
        assert "\n" not in str(caught.value)
    del images
    gc.collect()
    assert not list((tmp_path / "cache").rglob(".foldbench-*"))


def test_what_a_function_yields_another_time_does_not_change_what_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_text(
        "import numpy as np\n"
        "def make():\n"
        "    labels = np.random.default_rng().permutation(64)\n"
        "    images = np.zeros((64, 3, 8, 8), np.uint8)\n"
        "    images += labels[:, None, None, None].astype(np.uint8)\n"
        "    yield images, labels\n"
    )
    first, second = (read(Path(f"{tmp_path}/loader.py:make")).test for _ in range(2))
    assert not np.array_equal(first.labels, second.labels)
    for split in (first, second):
        kept = np.load(split.images.filename)  # as a worker opens it
        np.testing.assert_array_equal(kept[:, 0, 0, 0], split.labels)
    del first, second, split
    gc.collect()
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_what_a_function_of_the_users_should_not_yield_is_named(tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_text(
        "import numpy as np\n"
        "x = np.zeros((2, 3, 8, 8), np.uint8)\n"
        "nothing = lambda: None\n"
        "empty = lambda: []\n"
        "number = lambda: [3]\n"
        "other = lambda: [x, x[..., :4]]\n"
        "mixed = lambda: [x, (x, [0, 1])]\n"
        "fewer = lambda: [(x, [0])]\n"
        "three = lambda: [(x, [0, 1], 1)]\n"
        "missing = lambda: (open(name) for name in ['nowhere.png'])\n"
    )
    cases = {"nothing": "NoneType", "empty": "nothing", "number": "int64", "other": "8, 4"}
    cases |= {"mixed": "some", "fewer": r"\(1,\)", "three": "3 parts", "missing": "nowhere.png"}
    for name, expected in cases.items():
        with pytest.raises(DataError, match=f"loader.py:{name}: .*{expected}"):
            read(Path(f"{tmp_path}/loader.py:{name}"))


def test_all_files_that_cannot_be_read_are_named_and_skipped_only_on_request(
    tmp_path: Path,
) -> None:
    root = write(tmp_path / "p", "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    for place in ("cat/1.png", "dog/2.png"):
        (root / place).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2/4 image files .*cat/1\.png.*dog/2\.png.*--skip-bad"):
        read(root)
    for _ in range(2):
        images = read(root, skip_bad=True)
        check(images, cat=1, dog=1)
        assert images.info.skipped == {"damaged": 2}


@pytest.mark.parametrize("pack", [tarred, zipped])
def test_links_in_an_archive_lead_to_its_files_or_are_counted(
    tmp_path: Path, pack: Callable
) -> None:
    root = write(tmp_path / "p", "cat/1.png", "dog/1.png")
    path = pack(root)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a") as archive:
            for name, target in (("cat/2.png", "1.png"), ("cat/3.png", "../../etc/passwd")):
                info = zipfile.ZipInfo(name)
                info.external_attr = 0o120777 << 16
                archive.writestr(info, target)
    else:
        os.symlink("1.png", root / "cat/2.png")
        os.symlink("/etc/passwd", root / "cat/3.png")
        path = pack(root)
    images = read(path)
    check(images, cat=2, dog=1)
    assert images.info.skipped == {"link": 1}


def test_a_sample_keeps_the_shares_of_the_classes(tmp_path: Path) -> None:
    places = [f"cat/{n}.png" for n in range(6)] + [f"dog/{n}.png" for n in range(3)]
    root = write(tmp_path / "p", *places)
    images = read(root, test_subset=3)
    check(images, cat=2, dog=1)
    assert read(root, test_subset=3).info.sha256 == images.info.sha256
    with pytest.raises(DataError, match=r"test_subset is 10\D*9"):
        read(root, test_subset=10)


@pytest.mark.parametrize("fault", ["missing", "empty", "no archive", "cut"])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "p"
    if fault == "empty":
        path.mkdir()
    elif fault == "no archive":
        path.write_bytes(b"hello" * 500)
    elif fault == "cut":
        write(path, "cat/1.png", "dog/1.png")
        path = tarred(path)
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_path_takes_the_place_of_noise(tmp_path: Path) -> None:
    root = write(tmp_path / "p", "cat/1.png", "dog/1.png", "dog/2.png", "notes.txt.png")
    said = Said()
    section = DataSection(name="noise", path=str(root), image_size=8)
    images = load_data(section, tmp_path / "cache", said)
    assert images.info.test_class_counts == (1, 2)
    (line,) = [note for note in said.notes if "test images" in note]
    for part in ("3 test images", "cat 1, dog 2", "majority class dog 66.67 %", "1 image in no"):
        assert part in line


class Said(NullListener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

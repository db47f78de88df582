"""Tables and arrays that lie beside images in a folder, or inside an archive."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foldbench.bench.datasets import images
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet

Packer = Callable[[Path, Mapping[str, bytes]], Path]


def to_folder(place: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = place / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place / "data"


def to_zip(place: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(place / "data.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return place / "data.zip"


def to_tar(place: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(place / "data.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return place / "data.tar.gz"


PACKERS = [to_folder, to_zip, to_tar]


def picture(shade: int) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (9, 9), (shade, shade, shade)).save(written, "PNG")
    return written.getvalue()


def arrays(**named: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.savez(written, allow_pickle=False, **named)
    return written.getvalue()


def array(values: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, values, allow_pickle=False)
    return written.getvalue()


def load(path: Path, tmp_path: Path) -> ImageSet:
    options = DataOptions(path=path, download=False, cache=tmp_path / "cache", image_size=8)
    return images.load(options)


PICTURES = {"images/a.png": picture(10), "images/b.png": picture(20), "images/c.png": picture(30)}
TABLE = b"path,label\nimages/b.png,dog\nimages/a.png,cat\n"


@pytest.mark.parametrize("pack", PACKERS)
def test_a_table_beside_images_gives_them_their_labels_and_order(
    pack: Packer, tmp_path: Path
) -> None:
    found = load(pack(tmp_path, {**PICTURES, "labels.csv": TABLE}), tmp_path)
    assert found.info.classes == ("cat", "dog")
    assert found.test.labels is not None
    assert found.test.labels.tolist() == [1, 0]
    assert found.test.images[:, 0, 0, 0].tolist() == [20, 10]
    assert found.info.skipped == {"not in the table": 1}


@pytest.mark.parametrize("pack", PACKERS)
def test_bare_names_are_found_where_each_is_that_of_one_image(pack: Packer, tmp_path: Path) -> None:
    table = b"a.png\tx\nb.png\ty\nc.png\tx\n"
    found = load(pack(tmp_path, {**PICTURES, "labels.tsv": table}), tmp_path)
    assert found.test.labels is not None
    assert found.test.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("pack", PACKERS)
def test_class_folders_say_more_than_a_table(pack: Packer, tmp_path: Path) -> None:
    files = {"x/a.png": picture(1), "y/b.png": picture(2), "notes.csv": b"a.png,z\nb.png,z\n"}
    assert load(pack(tmp_path, files), tmp_path).info.classes == ("x", "y")


@pytest.mark.parametrize("pack", PACKERS)
def test_a_table_of_something_else_leaves_images_without_labels(
    pack: Packer, tmp_path: Path
) -> None:
    files = {"a.png": picture(1), "b.png": picture(2), "sizes.csv": b"width,height\n9,9\n"}
    assert load(pack(tmp_path, files), tmp_path).test.labels is None


@pytest.mark.parametrize(
    ("table", "found"),
    [(b"images/a.png,x\nimages/z.png,y\n", "z.png"), (b"a.png,x\na.png,y\n", "twice")],
)
def test_a_table_that_names_missing_images_or_one_twice_is_refused(
    table: bytes, found: str, tmp_path: Path
) -> None:
    path = to_zip(tmp_path, {**PICTURES, "labels.csv": table})
    with pytest.raises(DataError, match=found):
        load(path, tmp_path)


PIXELS = np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3)


@pytest.mark.parametrize("pack", [to_zip, to_tar])
@pytest.mark.parametrize(
    "files",
    [
        {"some/arrays.npz": arrays(images=PIXELS, labels=np.array([0, 2, 1]))},
        {"x.npy": array(PIXELS), "y.npy": array(np.array([0, 2, 1]))},
    ],
)
def test_arrays_in_an_archive_are_read_with_their_labels(
    pack: Packer, files: dict[str, bytes], tmp_path: Path
) -> None:
    found = load(pack(tmp_path, files), tmp_path)
    assert found.test.labels is not None
    assert found.test.labels.tolist() == [0, 2, 1]
    assert np.array_equal(found.test.images, PIXELS.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    "files",
    [
        {"a.npz": arrays(images=PIXELS), "b.npz": arrays(images=PIXELS)},
        {"a.npz": arrays(weights=PIXELS)},
        {"a.npy": b"\x93NUMPY broken"},
    ],
)
def test_arrays_that_are_several_or_no_images_are_refused(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="data.zip"):
        load(to_zip(tmp_path, files), tmp_path)

import hashlib
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from foldbench.bench.datasets.cifar10 import load
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions


class Untouchable:
    """Unpickling this makes a file, which shows that it was unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def write(path: Path, value: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pickle.dumps(value)
    path.write_bytes(content)
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), np.uint8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: np.ndarray) -> Path:
    """Return a folder with tiny batches in torchvision's form, whose md5 torchvision accepts."""
    folder = tmp_path / "root" / CIFAR10.base_folder
    files = []
    for name, part in zip(("b1", "b2", "t"), np.split(pixels, 3), strict=True):
        batch = {"data": part.reshape(10, 3072), "labels": list(range(10))[::-1]}
        files.append([name, write(folder / name, batch)])
    md5 = write(folder / "meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "train_list", files[:2])
    monkeypatch.setattr(CIFAR10, "test_list", files[2:])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": md5})
    return tmp_path / "root"


def options(path: Path | None, cache: Path, download: bool = False, size: int = 32) -> DataOptions:
    return DataOptions(path, download, size, cache)


def message(asked: DataOptions) -> str:
    with pytest.raises(DataError) as caught:
        load(asked)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_pixels_and_labels_come_out_as_they_were_written(
    root: Path, tmp_path: Path, pixels: np.ndarray
) -> None:
    loaded = load(options(root, tmp_path))
    np.testing.assert_array_equal(loaded.train.images, pixels[:20])
    np.testing.assert_array_equal(loaded.test.images, pixels[20:])
    np.testing.assert_array_equal(loaded.test.labels, np.arange(10)[::-1])
    assert loaded.info.title == "CIFAR-10"
    assert loaded.info.original
    assert loaded.info.classes == tuple("abcdefghij")


def test_the_batches_folder_itself_may_be_given(root: Path, tmp_path: Path) -> None:
    given = load(options(root / CIFAR10.base_folder, tmp_path))
    assert given.info.sha256 == load(options(root, tmp_path)).info.sha256


def test_without_a_path_the_cache_folder_is_looked_into(root: Path, tmp_path: Path) -> None:
    root.rename(tmp_path / "cifar10")
    assert load(options(None, tmp_path)).info.path == str(tmp_path / "cifar10")


def test_another_size_keeps_the_mean_colour(root: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    loaded = load(options(root, tmp_path, size=8))
    assert loaded.train.images.shape == (20, 3, 8, 8)
    means = pixels[:20].mean((2, 3))
    np.testing.assert_allclose(loaded.train.images.mean((2, 3)), means, atol=4)


def test_missing_files_name_the_three_ways_to_get_them(tmp_path: Path) -> None:
    text = message(options(None, tmp_path))
    assert str(tmp_path / "cifar10" / "cifar-10-batches-py") in text
    for way in ("--data PATH", "train/<class>/*", "test/<class>/*", "--set data.download=true"):
        assert way in text


def test_a_changed_batch_is_named_and_never_unpickled(root: Path, tmp_path: Path) -> None:
    batch = root / CIFAR10.base_folder / "b2"
    write(batch, Untouchable(tmp_path / "touched"))
    text = message(options(root, tmp_path))
    assert str(batch) in text
    assert not (tmp_path / "touched").exists()


def test_changed_class_names_are_refused_and_never_unpickled(root: Path, tmp_path: Path) -> None:
    write(root / CIFAR10.base_folder / "meta", Untouchable(tmp_path / "touched"))
    assert str(root / CIFAR10.base_folder / "meta") in message(options(root, tmp_path))
    assert not (tmp_path / "touched").exists()


def test_a_missing_batch_is_named(root: Path, tmp_path: Path) -> None:
    (root / CIFAR10.base_folder / "t").unlink()
    assert f"{root / CIFAR10.base_folder / 't'} is missing" in message(options(root, tmp_path))


def test_an_unreadable_batch_is_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: CIFAR10) -> bool:
        raise PermissionError(13, "Permission denied", str(root / "b1"))

    monkeypatch.setattr(CIFAR10, "_check_integrity", refuse)
    assert f"{root / 'b1'} cannot be read: " in message(options(root, tmp_path))


def test_torchvisions_archive_is_to_be_unpacked_first(tmp_path: Path) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"x")
    text = message(options(archive, tmp_path))
    assert "tar xf cifar-10-python.tar.gz" in text
    assert f"--data {tmp_path}" in text


def test_a_failed_download_is_one_line_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    text = message(options(tmp_path / "new", tmp_path, download=True))
    assert "CIFAR-10" in text
    assert f"into {tmp_path / 'new'}" in text
    assert "Network is unreachable" in text
    assert "check the network" in text


def test_nothing_is_downloaded_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(CIFAR10, "download", lambda self: calls.append("download"))
    message(options(None, tmp_path))
    assert calls == []
    message(options(None, tmp_path, download=True))
    assert calls == ["download"]


def test_files_that_are_there_are_not_downloaded_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "url", "https://localhost:1/never")
    assert load(options(root, tmp_path, download=True)).info.train_count == 20


def test_a_folder_of_images_is_read_as_an_image_folder(tmp_path: Path) -> None:
    for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / place / "0.png")
    loaded = load(options(tmp_path, tmp_path / "cache", size=8))
    assert loaded.info.name == "imagefolder"
    assert not loaded.info.original


def test_a_file_is_judged_like_an_image_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no images " * 100)
    assert "notes.txt" in message(options(tmp_path / "notes.txt", tmp_path))

"""Decoded images are kept, found again, and never trusted blindly."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foldbench.bench.datasets.imagefolder import load
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import DataOptions, ImageSet

Load = Callable[..., ImageSet]
Make = Callable[..., Path]
Refusal = Callable[[Path], str]


def entry_of(tmp_path: Path) -> Path:
    (entry,) = (tmp_path / "cache" / "imagefolder").iterdir()
    return entry


def test_a_second_load_comes_from_the_cache(
    make_folder: Make, load_from: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder()
    first = load_from(root)
    monkeypatch.setattr("foldbench.bench.images.folders.decode", None)
    second = load_from(root)
    assert second.info.from_cache
    assert second.info.sha256 == first.info.sha256


def test_changed_files_and_another_size_are_decoded_again(
    make_folder: Make, pack: Make, load_from: Load
) -> None:
    root = make_folder()
    load_from(root)
    assert not load_from(root, size=8).info.from_cache
    (root / "train/cat/0.png").replace(root / "train/cat/7.png")
    assert not load_from(root).info.from_cache
    load_from(pack(root))
    (root / "train/cat/1.png").unlink()
    assert not load_from(pack(root)).info.from_cache


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train-images.npy", b""),
        ("train-images.npy", None),
        ("test-labels.npy", b"\x93NUMPY"),
        ("entry.json", b"{"),
        ("entry.json", b"\xff\xfe"),
        ("entry.json", b"{}"),
    ],
)
def test_a_damaged_cache_entry_is_made_again(
    make_folder: Make,
    load_from: Load,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    content: bytes | None,
) -> None:
    root = make_folder()
    first = load_from(root)
    damaged = entry_of(tmp_path) / name
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    with caplog.at_level(logging.WARNING, "foldbench"):
        again = load_from(root)
    assert "are damaged" in caplog.text
    assert not again.info.from_cache
    assert again.info.sha256 == first.info.sha256
    assert load_from(root).info.from_cache


def test_a_file_rewritten_at_the_same_size_is_decoded_again(
    make_folder: Make, load_from: Load
) -> None:
    root = make_folder()
    Image.new("RGB", (12, 12), "red").save(root / "train/cat/0.bmp")
    assert load_from(root).train.images[0, :, 0, 0].tolist() == [255, 0, 0]
    time.sleep(0.01)  # file times are that coarse
    Image.new("RGB", (12, 12), "blue").save(root / "train/cat/0.bmp")
    assert load_from(root).train.images[0, :, 0, 0].tolist() == [0, 0, 255]


def test_an_entry_of_other_files_or_with_more_bytes_than_written_is_not_trusted(
    make_folder: Make, load_from: Load, tmp_path: Path
) -> None:
    root = make_folder()
    load_from(root)
    record = entry_of(tmp_path) / "entry.json"
    entry = json.loads(record.read_text())
    record.write_text(json.dumps(entry | {"key": "0" * 64}))
    assert not load_from(root).info.from_cache
    with (entry_of(tmp_path) / "test-images.npy").open("ab") as images:
        images.write(b"more")
    assert not load_from(root).info.from_cache
    assert load_from(root).info.from_cache


def test_cached_labels_that_are_no_classes_are_not_trusted(
    make_folder: Make, load_from: Load, tmp_path: Path
) -> None:
    root = make_folder()
    load_from(root)
    labels = entry_of(tmp_path) / "test-labels.npy"
    np.save(labels, np.load(labels) + 7)
    assert not load_from(root).info.from_cache


def test_a_pickle_in_the_cache_is_never_opened(
    make_folder: Make, load_from: Load, tmp_path: Path
) -> None:
    root = make_folder()
    load_from(root)
    labels = entry_of(tmp_path) / "train-labels.npy"
    np.save(labels, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    record = entry_of(tmp_path) / "entry.json"
    entry = json.loads(record.read_text())
    entry["sizes_bytes"]["train-labels.npy"] = labels.stat().st_size
    record.write_text(json.dumps(entry))
    assert not load_from(root).info.from_cache


def test_processes_that_decode_at_the_same_time_agree(make_folder: Make, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from foldbench.bench.datasets import imagefolder\n"
        "from foldbench.bench.images.image_set import DataOptions\n"
        "options = DataOptions(Path(sys.argv[1]), False, 8, Path(sys.argv[2]))\n"
        "print(imagefolder.load(options).info.sha256)"
    )
    command = [sys.executable, "-c", code, str(make_folder(count=40)), str(tmp_path / "cache")]
    root = Path(__file__).parents[3]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(3)
    ]
    answers = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(set(answers)) == 1
    names = ("train-images.npy", "train-labels.npy", "test-images.npy", "test-labels.npy")
    left = {path.name for path in entry_of(tmp_path).iterdir()}
    assert left - {".lock"} == {*names, "entry.json"}


def test_a_cache_that_cannot_be_written_is_named_before_anything_is_decoded(
    make_folder: Make, tmp_path: Path
) -> None:
    root = make_folder()
    (root / "train/cat/0.png").write_bytes(b"damaged, but not met")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot cache .*file.*FOLDBENCH_CACHE"):
        load(DataOptions(root, False, 8, tmp_path / "file"))


def test_a_full_disk_is_an_error_that_says_where(
    make_folder: Make, refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    text = refusal(make_folder())
    assert str(tmp_path / "cache") in text
    assert "No space left" in text
    assert "--runs" not in text

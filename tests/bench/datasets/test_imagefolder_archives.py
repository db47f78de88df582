"""Archives give what their folder gives, or say what is wrong with them."""

import gzip
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foldbench.bench.images.image_set import ImageSet

Load = Callable[..., ImageSet]
Make = Callable[..., Path]
Refusal = Callable[[Path], str]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("top", [".", "some-folder"])
def test_an_archive_gives_what_its_folder_gives(
    make_folder: Make, pack: Make, load_from: Load, name: str, top: str
) -> None:
    root = make_folder()
    archived = load_from(pack(root, name, top))
    assert archived.info.sha256 == load_from(root).info.sha256
    assert archived.info.title == name
    assert archived.info.path is not None
    assert archived.info.path.endswith(name)


def test_members_in_any_order_give_the_same_images(
    make_folder: Make, tmp_path: Path, load_from: Load
) -> None:
    root = make_folder()
    with tarfile.open(tmp_path / "backwards.tar", "w") as archive:
        for path in sorted(root.rglob("*.png"), reverse=True):
            archive.add(path, path.relative_to(root))
    assert load_from(tmp_path / "backwards.tar").info.sha256 == load_from(root).info.sha256


def test_links_in_an_archive_are_not_followed(
    make_folder: Make, pack: Make, tmp_path: Path, load_from: Load
) -> None:
    root = make_folder()
    plain = load_from(root).info.sha256
    os.symlink("/etc/hostname", root / "train/cat/8.png")
    os.link(root / "train/cat/0.png", root / "train/cat/9.png")
    archive = pack(root)
    with tarfile.open(archive, "a") as appended:
        assert "./train/cat/8.png" in appended.getnames()
        for kind in (tarfile.CHRTYPE, tarfile.FIFOTYPE):
            device = tarfile.TarInfo("train/cat/7.png")
            device.type = kind
            appended.addfile(device)
    assert load_from(archive).info.train_count == 4
    assert load_from(archive).info.sha256 == plain


def test_a_member_cannot_name_a_place_outside(
    make_folder: Make, pack: Make, tmp_path: Path, load_from: Load
) -> None:
    archive = pack(make_folder())
    plain = load_from(archive).info.train_count
    with tarfile.open(archive, "a") as appended:
        appended.addfile(tarfile.TarInfo("../outside/train/cat/5.png"))
    assert load_from(archive).info.train_count == plain
    assert not (tmp_path.parent / "outside").exists()


def test_the_later_of_two_members_of_one_name_counts_as_when_unpacking(
    make_folder: Make, pack: Make, load_from: Load
) -> None:
    root = make_folder()
    archive = pack(root)
    with tarfile.open(archive, "a") as appended:
        appended.add(root / "train/dog/1.png", "train/dog/0.png")
    loaded = load_from(archive)
    assert loaded.info.train_count == 4
    np.testing.assert_array_equal(loaded.train.images[2], loaded.train.images[3])


def test_an_archive_of_two_data_sets_is_refused(
    make_folder: Make, pack: Make, refusal: Refusal
) -> None:
    four = ("train/cat", "train/dog", "test/cat", "test/dog")
    root = make_folder(tuple(f"{top}/{place}" for top in ("a", "b") for place in four))
    assert "(a, b)" in refusal(pack(root))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"PK\x03\x04" + bytes(100), "is a zip file; allowed:"),
        (b"", "is not a tar archive"),
        (b"plain text " * 100, "is not a tar archive"),
        (b"\x1f\x8b" + b"x" * 600, "is truncated or damaged"),
        (b"\xfd7zXZ\x00" + b"x" * 600, "is truncated or damaged"),
        (bytes(10240), "has no train/ and no test/ folder (found: nothing)"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, refusal: Refusal, content: bytes, expected: str
) -> None:
    path = tmp_path / "file.tar"
    path.write_bytes(content)
    assert expected in refusal(path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("share", [0.3, 0.8, 0.999])
def test_a_truncated_archive_is_never_taken_for_a_whole_one(
    make_folder: Make, pack: Make, refusal: Refusal, name: str, share: float
) -> None:
    archive = pack(make_folder(count=10), name)
    whole = archive.read_bytes()
    if name == "a.tar":  # without the zeros that pad the end
        whole = whole.rstrip(b"\0")
    archive.write_bytes(whole[: int(len(whole) * share)])
    assert "is truncated or damaged" in refusal(archive)


def test_an_archive_cut_between_two_members_is_truncated(
    make_folder: Make, pack: Make, refusal: Refusal
) -> None:
    archive = pack(make_folder())
    with tarfile.open(archive) as opened:
        last = opened.getmembers()[-1].offset
    archive.write_bytes(archive.read_bytes()[:last])
    assert f"{archive} is truncated" in refusal(archive)


def test_a_damaged_header_in_the_middle_is_not_the_end(
    make_folder: Make, pack: Make, refusal: Refusal
) -> None:
    archive = pack(make_folder())
    with tarfile.open(archive) as opened:
        middle = opened.getmembers()[-2].offset
    content = bytearray(archive.read_bytes())
    content[middle : middle + 200] = b"x" * 200
    archive.write_bytes(content)
    assert "is truncated or damaged" in refusal(archive)


def test_a_wrong_checksum_after_the_last_member_is_noticed(
    make_folder: Make, pack: Make, refusal: Refusal
) -> None:
    archive = pack(make_folder())
    padded = archive.read_bytes() + bytes(2**20)  # more than is read to find the end
    content = bytearray(gzip.compress(padded))
    content[-8] ^= 1
    archive.write_bytes(content)
    assert "CRC check failed" in refusal(archive)


def test_a_damaged_image_is_named_by_file_or_member(
    make_folder: Make, pack: Make, refusal: Refusal
) -> None:
    root = make_folder()
    (root / "test/dog/1.png").write_bytes(b"no image")
    assert f"{root / 'test/dog/1.png'} is damaged " in refusal(root)
    archive = pack(root)
    assert f"{archive}: ./test/dog/1.png is damaged" in refusal(archive)

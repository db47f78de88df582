"""Archives that lie about their sizes: they end, at once and with one line."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from foldbench.bench.errors import DataError
from foldbench.bench.images import archives
from foldbench.bench.images.listing import list_images
from foldbench.bench.images.sources import open_source
from foldbench.bench.progress import NullListener

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "PNG")
    return stream.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return the 512 bytes that begin a member, whatever size they claim."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def images() -> bytes:
    """Return the members of a small data set, without the zeros that end an archive."""
    data = picture()
    padded = data + b"\0" * (-len(data) % 512)
    names = [f"{split}/{name}/1.png" for split in ("train", "test") for name in "ab"]
    return b"".join(header(name, len(data)) + padded for name in names)


END = b"\0" * 1024
LIES = {
    "a file of 2^55 bytes": images() + header("notes.txt", 2**55) + b"x" * 512,
    "a file of 2^40 bytes": images() + header("notes.txt", 2**40) + b"x" * 512,
    "an image of 2^55 bytes": header("train/a/1.png", 2**55) + images() + END,
    "an image beyond the end": images() + header("train/a/2.png", 2**20) + b"x" * 512,
    "a folder of 2^50 bytes": images() + header("notes", 2**50, tarfile.SYMTYPE) + b"x" * 512,
    "a long name of 2^40 bytes": images() + header("n", 2**40, tarfile.GNUTYPE_LONGNAME),
    "a long link of 2^40 bytes": images() + header("n", 2**40, tarfile.GNUTYPE_LONGLINK),
    "attributes of 2^40 bytes": images() + header("n", 2**40, tarfile.XHDTYPE),
    "attributes for all of 2^40 bytes": images() + header("n", 2**40, tarfile.XGLTYPE),
    "a damaged header": images() + b"x" * 512 + images() + END,
}


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("lie", [lie for lie in LIES if "folder" not in lie])
def test_an_archive_that_lies_about_a_size_is_refused_at_once(
    lie: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(COMPRESSORS[kind](LIES[lie]))
    started = time.process_time()
    with pytest.raises(DataError) as caught:
        list(open_source(path).files())
    assert time.process_time() - started < 5  # seconds; it took minutes, or had no end
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_an_archive_that_tells_the_truth_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(COMPRESSORS[kind](images() + header("notes.txt", 512) + b"x" * 512 + END))
    assert len(list(open_source(path).files())) == 4


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_a_file_that_expands_without_measure_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED_BYTES", 2**16)
    path = tmp_path / "a.tar"
    size = 2**24
    path.write_bytes(COMPRESSORS[kind](images() + header("zeros", size) + bytes(size) + END))
    with pytest.raises(DataError, match="a.tar .*300 times"):
        list(open_source(path).files())


class Told(NullListener):
    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def begin(self, title: str, total: int) -> None:
        self.heard.append((title, total))

    def advance(self, done: int, text: str = "") -> None:
        self.heard.append((text, done))

    def end(self, text: str = "") -> None:
        self.heard.append(("end", 0))


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("way", ["split", "any"])
def test_a_long_archive_tells_how_far_it_has_been_read(
    way: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_TOLD_EVERY_BYTES", 2**16)
    path, told = tmp_path / "a.tar", Told()
    noise = random.Random(0).randbytes(2**20)
    others = b"".join(header(f"{n}.bin", len(noise)) + noise for n in range(3))
    path.write_bytes(COMPRESSORS[kind](images() + others + END))
    if way == "split":
        list(open_source(path, listener=told).files())
    else:
        list_images(path, "", told)
    (title, total), *advances, end = told.heard
    assert "a.tar" in title
    assert (total, end) == (path.stat().st_size, ("end", 0))
    done = [bytes_read for _, bytes_read in advances]
    assert done == sorted(done)
    assert len(done) >= 2
    assert 0 < done[0] < done[-1] <= total

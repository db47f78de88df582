"""Image files by split and class: listed in a folder, or streamed out of a tar archive.

Nothing is ever unpacked onto the disk. Passed over are hidden files, `__MACOSX`, files without the
suffix of an image, and, in an archive, links and devices.
"""

import lzma
import os
import stat
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from tarfile import ReadError
from typing import Any, Protocol

from foldbench.bench import units
from foldbench.bench.errors import DataError, one_line
from foldbench.bench.images.archives import ArchiveStream, Member
from foldbench.bench.images.layout import SPLITS, Layout, is_hidden, is_image_name
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.store.files import file_sha256, json_sha256

LARGEST_FILE_BYTES = 256 * 2**20
"""A larger image file is refused instead of read into memory."""

_TOLD_EVERY_FILES = 100

ARCHIVE_FAULTS = (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error, ValueError)


@dataclass(frozen=True)
class ImageFile:
    """One image file, not decoded yet."""

    split: str
    class_name: str
    name: str
    """Path below the class folder."""
    origin: str
    """For messages: the file, or the archive and its member."""
    content: bytes | Path
    size_bytes: int

    def read(self) -> bytes:
        """Return the file's bytes; raise DataError when it cannot be read."""
        if isinstance(self.content, bytes):
            return self.content
        try:
            return self.content.read_bytes()
        except OSError as error:
            raise unreadable(self.content, error) from error


class LayoutProtocol(Protocol):
    """Says which images belong to a data set, and whether what was there makes one."""

    form: str
    """What is allowed, for messages."""
    left_out: Counter[str]
    """What is no image of a class, counted by the reason."""

    def place(self, parts: tuple[str, ...], is_folder: bool) -> tuple[str, str, str] | None:
        """Return split, class and name of the image at this path, None for anything else."""

    def check(self) -> None:
        """Raise DataError when what was seen is no data set."""


@dataclass(frozen=True)
class ImageSource:
    """Image files that can be gone through."""

    fingerprint: str
    """sha256; another one whenever the files are others."""
    files: Callable[[], Iterator[ImageFile]]
    """Goes through the files once; raises DataError, at the end if the layout is wrong."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Files of the source that are no images of a class, by the reason; in an archive, those that
    were gone through."""


Entries = Iterator[tuple[Path, os.stat_result | None]]
"""Files with their status, and folders without one."""
Walk = Callable[[Path], Entries]


def walk_splits(root: Path) -> Entries:
    """Yield folders (without a status) and files of the data set in `root`, in order.

    Split and class folders may be links; links to folders further down are not entered.
    """
    names = _visible(os.listdir(root))
    for name in names:
        top = root / name
        yield top, None if top.is_dir() else top.lstat()
    unused = "val" if "test" in names else ""
    for split in SPLITS:
        if split in names and split != unused and (root / split).is_dir():
            for name in _visible(os.listdir(root / split)):
                folder = root / split / name
                if folder.is_dir():
                    yield folder, None
                    yield from _files(folder)


def image_files(folder: Path) -> Entries:
    """Yield every image below `folder` in order, with its status; raise OSError where denied."""
    return ((path, status) for path, status in _files(folder) if is_image_name(path.name))


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = _visible(folders)
        for name in _visible(names):
            path = Path(place, name)
            is_image = is_image_name(name)
            try:
                status = path.stat() if is_image else path.lstat()
            except OSError:  # such as a link to nowhere: named with all that cannot be read
                yield path, path.lstat()
                continue
            if stat.S_ISREG(status.st_mode) or not is_image:
                yield path, status


def _visible(names: list[str]) -> list[str]:
    return sorted(name for name in names if not is_hidden(name))


def open_source(
    path: Path,
    layout_of: Callable[[Path], LayoutProtocol] = Layout,
    walk: Walk = walk_splits,
    listener: ProgressListener | None = None,
) -> ImageSource:
    """Return the image files in the folder or tar archive `path`; `walk` goes through a folder.

    `listener` hears how far they have been gone through.
    Raises DataError when there is nothing to read or a folder is not laid out as it should be.
    """
    listener = listener or NullListener()
    try:
        if path.is_dir():
            return _list_folder(path, layout_of(path), walk, listener)
        if path.is_file():
            layout = layout_of(path)
            files = partial(_stream, path, layout, listener)
            return ImageSource(file_sha256(path), files, layout.left_out)
    except OSError as error:
        raise unreadable(Path(error.filename or path), error) from error
    fault = "is neither a file nor a folder" if path.exists() else "does not exist"
    raise DataError(
        f"{path} {fault}; {layout_of(path).form}: correct --data (data.path in the configuration)"
    )


def _list_folder(
    root: Path, layout: LayoutProtocol, walk: Walk, listener: ProgressListener
) -> ImageSource:
    files: list[ImageFile] = []
    facts: list[tuple[str, int, int, int]] = []
    for path, status in walk(root):
        place = layout.place(path.relative_to(root).parts, is_folder=status is None)
        if place is None or status is None:
            continue
        origin = str(path)
        check_size(origin, status.st_size)
        facts.append((origin, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        files.append(ImageFile(*place, origin, path, status.st_size))
    layout.check()
    fingerprint = json_sha256([str(root.resolve()), facts])
    return ImageSource(fingerprint, lambda: _told(files, listener), layout.left_out)


def _told(files: Sequence[ImageFile], listener: ProgressListener) -> Iterator[ImageFile]:
    listener.begin(f"reading {units.count(len(files))} images", len(files))
    for done, file in enumerate(files):
        if done % _TOLD_EVERY_FILES == 0:
            listener.advance(done)
        yield file
    listener.end()


def _stream(path: Path, layout: LayoutProtocol, listener: ProgressListener) -> Iterator[ImageFile]:
    """Yield the images of the tar archive `path` that its layout has a place for, in its order.

    `listener` hears the bytes of the file that have been read.
    Raises DataError for a damaged archive, or at the end when the layout is not as it should be.
    """
    is_tar = False
    try:
        with (
            closing(_opened(path, layout.form)) as stream,
            tarfile.open(fileobj=stream, mode="r|", bufsize=2**18, tarinfo=Member) as archive,
        ):
            is_tar = True
            listener.begin(f"reading {path.name}", max(stream.size_bytes, 1))
            while (member := archive.next()) is not None:
                stream.tell_progress(listener)
                archive.members = []  # type: ignore[attr-defined]  # keep no header in memory
                file = _from_member(path, layout, archive, member)
                if file is not None:
                    yield file
            while stream.read(2**20):  # the checksum of a compressed file is at its end
                stream.tell_progress(listener)
            listener.end()
    except ARCHIVE_FAULTS as error:
        if isinstance(error, ReadError) and not is_tar:
            raise DataError(
                f"{path} is not a tar archive ({one_line(error)}); {layout.form}"
            ) from error
        raise DataError(
            f"{path} is truncated or damaged ({one_line(error)}); fetch or pack it again"
        ) from error
    layout.check()


def _from_member(
    path: Path, layout: LayoutProtocol, archive: tarfile.TarFile, member: tarfile.TarInfo
) -> ImageFile | None:
    if not (member.isdir() or member.isreg()):
        layout.left_out["link" if member.issym() or member.islnk() else "device"] += 1
        return None
    place = layout.place(_parts(member.name), member.isdir())
    if place is None:
        return None
    origin = f"{path}: {member.name}"
    check_size(origin, member.size)
    stream = archive.extractfile(member)
    if stream is None:
        return None
    return ImageFile(*place, origin, stream.read(), member.size)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(name).parts if part != "/")


def _opened(path: Path, form: str) -> Any:
    stream = ArchiveStream(path)
    if stream.start.startswith(b"PK"):
        raise DataError(f"{path} is a zip file; {form}: unpack it and give the folder")
    return stream


def check_size(origin: str, size_bytes: int) -> None:
    """Raise DataError when a file is larger than any image."""
    if size_bytes > LARGEST_FILE_BYTES:
        raise DataError(
            f"{origin} is too large for an image: {units.size(size_bytes)}, "
            f"allowed: {units.size(LARGEST_FILE_BYTES)}: scale it down or remove it"
        )


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error that says why `path` cannot be read."""
    return DataError(
        f"{path} cannot be read: {error.strerror or error}; check that it is there and that you "
        "may read it"
    )

"""What lies in a folder or an archive: its image files by path, and what else was passed over.

Nothing is ever unpacked onto the disk. Links in an archive are followed where they point to a file
of the archive; links in a folder are followed where they are files, or folders near the top.
"""

import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from foldbench.bench.errors import DataError, one_line
from foldbench.bench.images.archives import ArchiveStream, Member
from foldbench.bench.images.layout import is_hidden, is_image_name, readable_name, suffix_reason
from foldbench.bench.images.sources import (
    ARCHIVE_FAULTS,
    LARGEST_FILE_BYTES,
    check_size,
    unreadable,
)
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.store.files import file_sha256, is_zip

Parts = tuple[str, ...]
TABLES, ARRAYS = (".csv", ".tsv"), (".npz", ".npy")
"""Suffixes of what says something of images, or holds them."""
_FOLLOWED_DEPTH = 2
"""Folders that are links are entered where they are split or class folders."""
_MOST_LINKS = 10
_ZIP_FAULTS = (zipfile.BadZipFile, OSError, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Listed:
    """One image file, not read yet."""

    parts: Parts
    """Of its path, from the folder's or the archive's top."""
    origin: str
    """For messages: the file, or the archive and its member."""
    size_bytes: int
    facts: tuple[object, ...]
    """Other ones whenever the file is another one, as JSON types."""


Content = tuple[Listed, bytes | Path]


@dataclass(frozen=True)
class Listing:
    """The image files of one folder or archive."""

    path: Path
    kind: str
    """Such as ``folder``, for people."""
    files: tuple[Listed, ...]
    """Sorted by path."""
    contents: Callable[[Collection[Parts]], Iterator[Content]]
    """Goes once through the files at some paths, in any order. Raises DataError."""
    skipped: Counter[str] = field(default_factory=Counter)
    """What is no image, counted by the reason."""
    others: tuple[Listed, ...] = ()
    """Tables and arrays of an archive, or at the top of a folder; they count as skipped, too."""

    @property
    def is_archive(self) -> bool:
        """Whether it is one file."""
        return self.kind != "folder"


def list_images(path: Path, allowed: str, listener: ProgressListener | None = None) -> Listing:
    """List the folder or archive `path`; raise DataError when it cannot be read.

    `allowed` says for messages what else may stand there; `listener` hears how far an archive has
    been gone through.
    """
    try:
        if path.is_dir():
            return _list_folder(path)
        if path.is_file():
            if is_zip(path):
                return _list_zip(path)
            return _list_tar(path, allowed, listener or NullListener())
    except OSError as error:
        raise unreadable(Path(error.filename or path), error) from error
    fault = "is neither a file nor a folder" if path.exists() else "does not exist"
    raise DataError(f"{path} {fault}; {allowed}: correct --data (data.path in the configuration)")


def _list_folder(root: Path) -> Listing:
    skipped: Counter[str] = Counter()
    files = []
    others = tuple(
        Listed((entry.name,), entry.path, entry.stat().st_size, ())
        for entry in sorted(os.scandir(root), key=lambda entry: entry.name)
        if _is_other(entry.name) and entry.is_file()
    )
    for place, parts in _walk(root, (), skipped):
        try:
            status = place.stat()
        except OSError:  # such as a link to nowhere: named with all that cannot be read, at the end
            files.append(Listed(parts, str(place), 0, ()))
            continue
        if not stat.S_ISREG(status.st_mode):
            skipped["device"] += 1
            continue
        check_size(str(place), status.st_size)
        facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        files.append(Listed(parts, str(place), status.st_size, facts))
    listed = tuple(sorted(files, key=lambda file: file.parts))
    by_parts = {file.parts: file for file in (*listed, *others)}

    def contents(wanted: Collection[Parts]) -> Iterator[Content]:
        return ((by_parts[parts], Path(by_parts[parts].origin)) for parts in sorted(wanted))

    return Listing(root, "folder", listed, contents, skipped, others)


def _walk(folder: Path, above: Parts, skipped: Counter[str]) -> Iterator[tuple[Path, Parts]]:
    """Yield the image files below `folder` in order, and count what else is there."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        place, parts = Path(entry.path), (*above, readable_name(entry.name))
        hidden = is_hidden(entry.name)
        if entry.is_dir():
            if entry.is_symlink() and len(above) >= _FOLLOWED_DEPTH:
                skipped["link to a folder"] += 1
            elif not hidden:
                yield from _walk(place, parts, skipped)
        elif hidden or not is_image_name(entry.name):
            skipped["hidden" if hidden else suffix_reason(entry.name)] += 1
        else:
            yield place, parts


def _list_zip(path: Path) -> Listing:
    skipped: Counter[str] = Counter()
    links: dict[str, str] = {}
    members: dict[str, zipfile.ZipInfo] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = _cleaned(info.filename)
                if info.is_dir():
                    continue
                if stat.S_ISLNK(info.external_attr >> 16):
                    target = archive.open(info).read(4096).decode("utf-8", "surrogateescape")
                    links[name] = posixpath.join(posixpath.dirname(name), target)
                else:
                    members[name] = info
    except _ZIP_FAULTS as error:
        raise _damaged(path, error) from error
    sizes = {name: info.file_size for name, info in members.items()}
    targets = _targets(sizes, links, skipped)
    listed, others = _listed(path, sizes, targets, skipped)

    def contents(wanted: Collection[Parts]) -> Iterator[Content]:
        with zipfile.ZipFile(path) as archive:
            for file in (*listed, *others):
                if file.parts in wanted:
                    info = members[targets["/".join(file.parts)]]
                    yield file, _read_member(path, archive, info)

    return Listing(path, "zip archive", listed, contents, skipped, others)


def _read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a member's bytes; what it says of its size is not believed."""
    try:
        with archive.open(info) as stream:
            data = stream.read(LARGEST_FILE_BYTES + 1)
    except _ZIP_FAULTS as error:
        raise _damaged(path, error) from error
    check_size(f"{path}: {info.filename}", len(data))
    return data


def _list_tar(path: Path, allowed: str, listener: ProgressListener) -> Listing:
    skipped: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    links: dict[str, str] = {}
    for _, member in _members(path, allowed, listener):
        name = _cleaned(member.name)
        if member.isreg():
            sizes[name] = member.size
        elif member.issym():
            links[name] = posixpath.join(posixpath.dirname(name), member.linkname)
        elif member.islnk():
            links[name] = member.linkname
        elif not member.isdir():
            skipped["device"] += 1
    targets = _targets(sizes, links, skipped)
    listed, others = _listed(path, sizes, targets, skipped)
    contents = partial(_tar_contents, path, (*listed, *others), targets)
    return Listing(path, "tar archive", listed, contents, skipped, others)


def _tar_contents(
    path: Path, listed: tuple[Listed, ...], targets: dict[str, str], wanted: Collection[Parts]
) -> Iterator[Content]:
    """Yield files as the archive is read once; a link's content comes with its target's."""
    asked: dict[str, list[Listed]] = {}
    for file in listed:
        if file.parts in wanted:
            asked.setdefault(targets["/".join(file.parts)], []).append(file)
    for archive, member in _members(path, "", None):
        files = asked.pop(_cleaned(member.name), []) if member.isreg() else []
        if not files:
            continue
        stream = archive.extractfile(member)
        data = stream.read() if stream is not None else b""
        yield from ((file, data) for file in files)


def _members(
    path: Path, allowed: str, listener: ProgressListener | None
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    is_tar = False
    try:
        with (
            closing(ArchiveStream(path)) as stream,
            tarfile.open(fileobj=_as_file(stream), mode="r|", bufsize=2**18, tarinfo=Member) as tar,
        ):
            is_tar = True
            if listener is not None:
                listener.begin(f"listing {path.name}", max(stream.size_bytes, 1))
            while (member := tar.next()) is not None:
                stream.tell_progress(listener)
                tar.members = []  # type: ignore[attr-defined]  # keep no header in memory
                if member.isreg() and is_image_name(member.name):
                    check_size(f"{path}: {member.name}", member.size)
                yield tar, member
            while stream.read(2**20):  # the checksum of a compressed file is at its end
                stream.tell_progress(listener)
            if listener is not None:
                listener.end()
    except ARCHIVE_FAULTS as error:
        if isinstance(error, tarfile.ReadError) and not is_tar:
            raise DataError(
                f"{path} is neither a zip nor a tar archive ({one_line(error)}); {allowed}"
            ) from error
        raise _damaged(path, error) from error


def _as_file(stream: ArchiveStream) -> Any:
    return stream


def _damaged(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path} is truncated or damaged ({one_line(error)}); fetch or pack it again")


def _cleaned(name: str) -> str:
    """Return a member's path without ``.`` and leading slashes."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/"]
    return "/".join(map(readable_name, parts))


def _targets(sizes: dict[str, int], links: dict[str, str], skipped: Counter[str]) -> dict[str, str]:
    """Return the member that each file's bytes are in; count links that lead to none."""
    targets = {name: name for name in sizes}
    for name, target in links.items():
        for _ in range(_MOST_LINKS):
            target = _cleaned(posixpath.normpath(target))
            if target not in links:
                break
            target = links[target]
        if target in sizes:
            targets[name] = target
        else:
            skipped["link"] += 1
    return targets


def _listed(
    path: Path, sizes: dict[str, int], targets: dict[str, str], skipped: Counter[str]
) -> tuple[tuple[Listed, ...], tuple[Listed, ...]]:
    """Return the images, and the tables and arrays; count those and all else as skipped."""
    sha256 = file_sha256(path)
    files, others = [], []
    for name, target in sorted(targets.items()):
        parts = tuple(name.split("/"))
        if any(map(is_hidden, parts)):
            skipped["hidden"] += 1
            continue
        file = Listed(parts, f"{path}: {name}", sizes[target], (sha256,))
        if is_image_name(parts[-1]):
            files.append(file)
            continue
        skipped[suffix_reason(parts[-1])] += 1
        if _is_other(parts[-1]):
            others.append(file)
    return tuple(sorted(files, key=lambda file: file.parts)), tuple(others)


def _is_other(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in (*TABLES, *ARRAYS)

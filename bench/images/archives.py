"""Tar archives read as a stream that ends: whatever sizes an archive claims, or expands to."""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from tarfile import HeaderError, ReadError
from typing import IO, Any, Self

from foldbench.bench import units
from foldbench.bench.progress import ProgressListener

_COMPRESSIONS: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
_LARGEST_EXPANSION = 300
"""Times its own size that a compressed file may expand to, beyond the first bytes."""
_ALWAYS_ALLOWED_BYTES = 2**28
_LARGEST_HEADER_BYTES = 2**20
_TOLD_EVERY_BYTES = 2**22
_EMPTY_READS = 16
"""More in a row, and something is passed over that is not there."""
_EXTENDED = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class ArchiveStream:
    """The bytes of an archive, expanded where it is compressed."""

    def __init__(self, path: Path) -> None:
        """Open `path`; raise OSError when it cannot be read."""
        self._file: IO[bytes] = path.open("rb")
        self.start = self._file.read(8)
        self._file.seek(0)
        opener = next((o for magic, o in _COMPRESSIONS if self.start.startswith(magic)), None)
        self._expanded: IO[bytes] = opener(self._file, "rb") if opener else self._file
        self.size_bytes = path.stat().st_size
        """Of the file, compressed as it is."""
        self._told_bytes = 0
        self._count = 0
        self._empty = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises EOFError when the end has been read often, ReadError for a file that expands to far
        more than images do.
        """
        data = self._expanded.read(size)
        self._count += len(data)
        self._empty = 0 if data else self._empty + 1
        if self._empty > _EMPTY_READS:
            raise EOFError("it ends before the sizes in it say")
        allowed = _ALWAYS_ALLOWED_BYTES + _LARGEST_EXPANSION * self._file.tell()
        if self._expanded is not self._file and self._count > allowed:
            raise ReadError(f"it expands to more than {_LARGEST_EXPANSION} times its size")
        return data

    def tell_progress(self, listener: ProgressListener | None) -> None:
        """Tell how much of the file has been read, unless that is about what was told before."""
        done = min(self._file.tell(), self.size_bytes)
        if listener is not None and done - self._told_bytes >= _TOLD_EVERY_BYTES:
            self._told_bytes = done
            listener.advance(done, f"{units.size(done)} of {units.size(self.size_bytes)}")

    def close(self) -> None:
        """Close the file."""
        self._expanded.close()
        self._file.close()


class Member(tarfile.TarInfo):
    """A member of an archive, where a damaged header is an error and not the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """Return the next member; raise ReadError for a damaged header."""
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the zeros that end every archive
                raise
            raise ReadError(str(error)) from error

    def _proc_member(self, tarfile: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _EXTENDED and self.size > _LARGEST_HEADER_BYTES):
            raise ReadError(f"a header says that it has {units.count(self.size)} bytes")
        return super()._proc_member(tarfile)  # type: ignore[misc]

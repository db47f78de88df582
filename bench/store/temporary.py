"""Temporary files and folders that say which process they belong to, and what dead ones left."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_NAME = re.compile(r"\.?foldbench-(?P<process>\d+)-.*")
_LOCK = ".lock"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield an empty folder where the system keeps temporary files; it goes with its files."""
    with tempfile.TemporaryDirectory(prefix=f"foldbench-{os.getpid()}-") as name:
        lock = FileLock(Path(name) / _LOCK)
        with lock:
            yield Path(name)


@contextmanager
def filling(folder: Path) -> Iterator[bool]:
    """Hold `folder`, which is made, while it is filled; what processes left in it when killed goes.

    Yield whether another process that filled it was waited for. Raises OSError where it cannot be
    held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
        waited = False
    except Timeout:
        lock.acquire()
        waited = True
    try:
        sweep(folder.glob(".foldbench-*"))
        yield waited
    finally:
        sweep(folder.glob(".foldbench-*"))
        lock.release()


def sweep(places: Iterable[Path]) -> None:
    """Remove those of `places` that a process left when it was killed; what is in use stays."""
    for path in places:
        if _is_left(path):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def sweep_temporary_folders() -> None:
    """Remove the temporary folders of this user's processes that were killed."""
    with suppress(OSError):
        sweep(Path(tempfile.gettempdir()).glob("foldbench-*"))


def _is_left(path: Path) -> bool:
    import psutil

    match = _NAME.fullmatch(path.name)
    if match is None or path.is_symlink() or psutil.pid_exists(int(match["process"])):
        return False
    lock = path / _LOCK
    if not lock.is_file():
        return True
    try:  # processes of another container have numbers of their own
        with FileLock(lock, timeout=0):
            return True
    except (Timeout, OSError):
        return False

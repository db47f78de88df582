"""Files that are either whole or not there: atomic writes and hashes."""

import hashlib
import json
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foldbench.bench.errors import RunError, one_line

WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl", ".pickle")
"""How files of weights are called."""


def user_cache() -> Path:
    """Return the folder for what can be made again: FOLDBENCH_CACHE, or the user's own."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("FOLDBENCH_CACHE")
    return Path(chosen) if chosen else user_cache_path("foldbench")


def temporary_name() -> str:
    """Return a hidden name that no other file has, of this process."""
    return f".foldbench-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` when all went well.

    Whatever fails (a full disk, a read-only folder, a kill), an older `path` stays as it was. A
    link stays, and what it points to is replaced; a device or pipe is written into, at the end.
    Raises RunError that names the file when the operating system refuses.
    """
    try:
        if _is_stream(path):
            with TemporaryDirectory(prefix=f"foldbench-{os.getpid()}-") as folder:
                written = Path(folder) / f"written{path.suffix}"
                yield written
                _copy_into(path, written)
        else:
            with _replacing_file(Path(os.path.realpath(path))) as temporary:
                yield temporary
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; "
            "what was there before is unchanged: free space, or choose another place"
        ) from error


@contextmanager
def _replacing_file(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{temporary_name()}{path.suffix}"
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = stat.S_IMODE(temporary.stat().st_mode)  # what the umask left of it
        yield temporary
        temporary.chmod(mode)  # libraries may put a file of their own there
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_stream(path: Path) -> bool:
    """Return whether `path` is there to be written into: a device, a pipe, /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    here = Path(os.path.abspath(path))
    of_process = here.parts[1:2] in (("dev",), ("proc",)) and here.parts[2:3] != ("shm",)
    return of_process or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _copy_into(path: Path, written: Path) -> None:
    with written.open("rb") as source, os.fdopen(_open_stream(path), "wb") as target:
        shutil.copyfileobj(source, target)


def _open_stream(path: Path) -> int:
    """Return a descriptor to write with: of stdout or stderr itself, where `path` names them."""
    for descriptor in (1, 2):
        with suppress(OSError):  # it is closed
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return os.dup(descriptor)
    return os.open(path, os.O_WRONLY | os.O_APPEND)


def existing(folder: Path) -> Path:
    """Return a run's `folder`; raise RunError where it is gone, which a write would bring back."""
    if not folder.is_dir():
        raise RunError(f"{folder} was deleted meanwhile: nothing was written")
    return folder


def artifact_path(folder: Path, name: str, variant: str) -> Path:
    """Return where the run in `folder`, of the config `name`, has its exported file `variant`.

    Raises RunError where the folder is gone.
    """
    return existing(folder) / "artifacts" / f"{name}.{variant}.onnx"


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_with(path: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` make the file at a temporary path, then put it at `path` atomically.

    Libraries report a failed write in errors of their own; all of them become RunError.
    """
    with replacing(path) as temporary:
        try:
            write(temporary)
        except OSError:
            raise
        except Exception as error:
            raise OSError(one_line(error, 120)) from error


def is_weights_file(text: str) -> bool:
    """Return whether weights called `text` are a file, not weights that a library has by name.

    They are when it has a suffix of such files or a separator of folders, or when there is a file
    of that name, other than ``default`` and ``none``.
    """
    path = Path(text)
    if path.suffix.lower() in WEIGHTS_SUFFIXES or "/" in text or os.sep in text:
        return True
    return text not in ("default", "none") and path.is_file()


def file_sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of the file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """Return the hexadecimal sha256 of `value` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive, whole or damaged; raise OSError where unreadable."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # raised for some damaged ends
        return True

"""Files that are either whole or not there: atomic writes and hashes."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foldbench.bench.errors import RunError, one_line


def user_cache() -> Path:
    """Return the folder for what can be made again: FOLDBENCH_CACHE, or the user's own."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("FOLDBENCH_CACHE")
    return Path(chosen) if chosen else user_cache_path("foldbench")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` when all went well.

    Whatever fails (a full disk, a read-only folder, a kill), an older `path` stays as it was.
    Raises RunError that names the file when the operating system refuses.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; "
            "what was there before is unchanged: free space or choose another place with --runs"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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


def file_sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of the file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """Return the hexadecimal sha256 of `value` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

"""What no command foresees: one line for the user, and the whole traceback in a file."""

import io
import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from foldbench.bench.errors import RunError, one_line

VARIABLE = "FOLDBENCH_TRACEBACK"
"""Set to 1, as by --traceback, the traceback is shown as well."""


def prepare_streams() -> None:
    """Give stdout and stderr where they are closed, and let them take every character.

    A file that is opened must not get the number of a stream that C libraries print to.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def explain(error: Exception) -> str:
    """Return one line about an error that nothing foresaw; write its traceback to a file."""
    if isinstance(error, MemoryError):
        return "out of memory: end other programs, or ask for less (images, batch sizes, threads)"
    lines = "".join(traceback.format_exception(error))
    if os.environ.get(VARIABLE, "0") not in ("", "0"):
        sys.stderr.write(lines)
    kept = _keep(f"{datetime.now(UTC).isoformat()}\n{sys.argv}\n{sys.version}\n\n{lines}")
    where = f"traceback in {kept}" if kept else f"{VARIABLE}=1 shows the traceback"
    return (
        f"{type(error).__name__}: {one_line(error)}: foldbench did not foresee this "
        f"({where}): please report it with that file"
    )


def _keep(text: str) -> Path | None:
    from foldbench.bench.store.files import user_cache, write_text

    name = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    for folder in (user_cache() / "errors", Path(tempfile.gettempdir())):
        try:
            write_text(folder / f"foldbench-error-{name}", text)
        except (RunError, OSError):
            continue
        return folder / f"foldbench-error-{name}"
    return None

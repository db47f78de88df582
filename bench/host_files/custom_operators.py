"""Custom operators for onnxruntime on a CPU, compiled on the machine that runs them.

They are C in ``bench/kernels``, compiled once by this machine's compiler for this machine's
processor and kept in the user's cache folder. Files that hold them say so in their metadata
(`bench.host_files.marks`) and are for this machine alone.
"""

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from foldbench.bench.errors import BackendError, one_line
from foldbench.bench.machine.cpu import describe_cpu
from foldbench.bench.store.files import file_sha256, replacing, user_cache

DOMAIN = "foldbench"
MISH = "Mish"
"""(any shape) float32 -> the same shape, within 3e-7 of max(1, |y|)."""
LOOKUP = "Lookup"
"""(any shape) uint8 codes and a table (256,) uint8 -> the same shape: the table's entries."""

_SOURCE = Path(__file__).parent / "kernels" / "operators.c"
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_COMPILERS = ("cc", "gcc", "clang")
_TIME_S = 60


def register(options: Any) -> None:
    """Give onnxruntime's SessionOptions the operators; raises what `library` raises."""
    options.register_custom_ops_library(str(library()))


def library() -> Path:
    """Return the shared library that holds the operators; compile it if that was not done yet.

    Raises BackendError without a C compiler, or when it does not take the code.
    """
    path = _folder() / f"{DOMAIN}-{identity()[:16]}.so"
    if not path.is_file():
        compiler = _compiler()
        with replacing(path) as temporary:
            _compile(compiler, temporary)
    return path


def library_sha256() -> str | None:
    """Return the sha256 of the library's bytes, None where there is none and none can be made."""
    try:
        return file_sha256(library())
    except BackendError:
        return None


@cache
def identity() -> str:
    """Return the sha256 of what the library follows from: code, flags and processor."""
    about = describe_cpu()
    parts = [*_FLAGS, str(about["cpu_id"]), " ".join(about["cpu_features"] or ())]
    return hashlib.sha256("\0".join([_SOURCE.read_text("utf-8"), *parts]).encode()).hexdigest()


def _folder() -> Path:
    chosen = os.environ.get("FOLDBENCH_CACHE")
    return (Path(chosen) if chosen else user_cache()) / "kernels"


def _compiler() -> str:
    wanted = [os.environ["CC"]] if os.environ.get("CC") else list(_COMPILERS)
    found = next((path for name in wanted if (path := shutil.which(name))), None)
    if found is None:
        raise BackendError(
            f"the custom operators need a C compiler, and there is no {' or '.join(wanted)} "
            "here: install one, or export without them (bench export --target cpu)"
        )
    return found


def _compile(compiler: str, path: Path) -> None:
    command = [compiler, *_FLAGS, "-o", str(path), str(_SOURCE)]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=_TIME_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise BackendError(
            f"{compiler} could not compile the custom operators "
            f"({one_line(ValueError(reason), 120)}): name another compiler in CC, or export "
            "without "
            "them (bench export --target cpu)"
        ) from error

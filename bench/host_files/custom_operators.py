"""Custom operators for onnxruntime on a CPU, compiled on the machine that runs them.

They are C in ``bench/host_files/kernels`` and C that `bench.compiler` makes of bodies, compiled
once by this machine's compiler for this machine's processor and kept in a folder of this user
alone. The library's name holds the sha256 of its bytes: one that was changed is compiled again.
Files with custom operators carry the bodies in their metadata (`bench.host_files.marks`) and are
for this machine alone.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from foldbench.bench.compiler.body import Body, parse_body
from foldbench.bench.compiler.c_source import c_functions, c_table, needs_float16
from foldbench.bench.compiler.cuda_source import cuda_source
from foldbench.bench.compiler.nvrtc import compile_cuda
from foldbench.bench.errors import BackendError, cut, one_line
from foldbench.bench.host_files.marks import bodies_in
from foldbench.bench.machine.cpu import describe_cpu
from foldbench.bench.store.files import file_sha256, user_cache

DOMAIN = "foldbench"

_KERNELS = Path(__file__).parent / "kernels"
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_COMPILERS = ("cc", "gcc", "clang")
_TIME_S = 60
_ELSEWHERE = "name a folder of your own with --cache"


def register(options: Any, bodies: Iterable[str] = (), gpu: str | None = None) -> None:
    """Give onnxruntime's SessionOptions an operator for each of `bodies`.

    `gpu` is the architecture of an NVIDIA GPU (``sm_90``), for the CUDA
    execution provider. Raises what `library` raises, and BackendError for a text that is no body.
    """
    read = [parse_body(text) for text in bodies]
    options.register_custom_ops_library(str(library(read, gpu)))


def register_for(options: Any, facts: Mapping[str, str]) -> None:
    """Give onnxruntime's SessionOptions what a model with the metadata `facts` needs, if anything.

    Raises what `register` raises.
    """
    bodies = bodies_in(facts)
    if bodies is not None:
        register(options, bodies)


def library(bodies: Sequence[Body] = (), gpu: str | None = None) -> Path:
    """Return the shared library that holds the operators; compile it if that was not done yet.

    Raises BackendError without a C compiler, when it does not take the code, when what it made
    cannot be loaded, or for a folder that is not this user's; for a `gpu` also what NVRTC raises.
    """
    source = write_source(bodies) if gpu is None else write_cuda_source(bodies, gpu)
    try:
        folder = _folder()
        return _kept(folder, source) or _made(folder, source)
    except OSError as error:
        raise BackendError(
            f"custom operators cannot be kept in {user_cache() / 'kernels'}: "
            f"{error.strerror or error}: {_ELSEWHERE}"
        ) from error


def library_sha256() -> str | None:
    """Return the sha256 of the library without bodies; None where none can be made."""
    try:
        return file_sha256(library())
    except BackendError:
        return None


def write_source(bodies: Sequence[Body]) -> str:
    """Return the C of a library with an operator for each of `bodies`, in the order of names."""
    ordered = _in_order(bodies)
    parts = [
        "#define FB_FLOAT16\n" if needs_float16(ordered) else "",
        *(_read(name) for name in ("onnxruntime.h", "arithmetic.h", "elementwise.h")),
        c_functions(ordered),
        c_table(ordered),
        _read("operators.c"),
    ]
    return "\n".join(parts)


def write_cuda_source(bodies: Sequence[Body], gpu: str) -> str:
    """Return the C of a library with an operator on a GPU for each of `bodies`, kernels included.

    Raises what `bench.compiler.nvrtc` raises.
    """
    ordered = _in_order(bodies)
    images = [compile_cuda(cuda_source(body), gpu) for body in ordered]
    parts = [_read("onnxruntime.h"), _read("elementwise.h"), c_table(ordered, images)]
    return "\n".join([*parts, _read("cuda.c")])


def _in_order(bodies: Iterable[Body]) -> list[Body]:
    return [body for _, body in sorted({body.name: body for body in bodies}.items())]


def identity(source: str) -> str:
    """Return the sha256 of what a library follows from: code, flags and processor."""
    about = describe_cpu()
    parts = [*_FLAGS, str(about["cpu_id"]), " ".join(about["cpu_features"] or ())]
    return hashlib.sha256("\0".join([source, *parts]).encode()).hexdigest()


@cache
def _read(name: str) -> str:
    return (_KERNELS / name).read_text("utf-8")


def is_private(path: Path) -> bool:
    """Return whether `path` belongs to this user, who alone may write it; true on Windows."""
    status = path.lstat()
    if not hasattr(os, "geteuid"):
        return True
    writable = stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.geteuid() and not writable and not stat.S_ISLNK(status.st_mode)


def _folder() -> Path:
    """Return the folder of libraries, of mode 0700; raise BackendError unless it is this user's."""
    folder = user_cache().absolute() / "kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not is_private(folder):
        raise BackendError(
            f"custom operators are not loaded from {folder}, which is a link or another user's: "
            f"{_ELSEWHERE}"
        )
    return folder


def _kept(folder: Path, source: str) -> Path | None:
    """Return the library in `folder`; remove one that was damaged or that others may change."""
    start = _start(source)
    for path in sorted(folder.glob(f"{start}*.so")):
        if is_private(path) and path.name == f"{start}{file_sha256(path)}.so":
            return path
        path.unlink()
    return None


def _made(folder: Path, source: str) -> Path:
    compiler = _compiler()
    with tempfile.TemporaryDirectory(prefix=".compiling-", dir=folder) as place:
        made = Path(place) / "operators.so"
        _compile(compiler, source, made)
        _load_elsewhere(compiler, made)
        made.chmod(0o600)
        return made.replace(folder / f"{_start(source)}{file_sha256(made)}.so")


def _start(source: str) -> str:
    return f"{DOMAIN}-{identity(source)[:16]}-"


def _compiler() -> str:
    wanted = [os.environ["CC"]] if os.environ.get("CC") else list(_COMPILERS)
    found = next((path for name in wanted if (path := shutil.which(name))), None)
    if found is None:
        raise BackendError(
            f"the custom operators need a C compiler, and there is no {' or '.join(wanted)} "
            "here: install one, or export without them (bench export --target cpu)"
        )
    return found


def _compile(compiler: str, source: str, path: Path) -> None:
    command = [compiler, *_FLAGS, "-o", str(path), "-x", "c", "-"]
    try:
        subprocess.run(
            command, input=source, capture_output=True, text=True, timeout=_TIME_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise BackendError(
            f"{compiler} could not compile the custom operators "
            f"({one_line(ValueError(reason), 120)}): name another compiler in CC, or export "
            "without "
            "them (bench export --target cpu)"
        ) from error


def _load_elsewhere(compiler: str, path: Path) -> None:
    """Load the library in a process of its own; raise BackendError when that is its end."""
    load = "import sys, ctypes; ctypes.CDLL(sys.argv[1]).RegisterCustomOps"
    command = [sys.executable, "-I", "-c", load, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_S, check=False)
    if ended.returncode:
        reason = ended.stderr.strip().rpartition("\n")[2] or f"exit code {ended.returncode}"
        raise BackendError(
            f"what {compiler} made of the custom operators cannot be loaded ({cut(reason, 120)}): "
            "name another compiler in CC, or export without them (bench export --target cpu)"
        )

"""Other versions of a runtime, each in a virtual environment of its own in the user's cache.

An environment holds numpy and the runtime, for the Python that runs here. One process makes it,
under a temporary name, tries it, and renames it: one that stands under its own name is whole.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from foldbench.bench.errors import BackendError, cut
from foldbench.bench.store.files import temporary_name
from foldbench.bench.store.temporary import filling

_MODULES = {"onnxruntime": "onnxruntime", "onnxruntime-gpu": "onnxruntime", "openvino": "openvino"}
"""What each distribution is imported as."""
_NUMPY = ("numpy", "numpy<2")
"""The second is for runtimes that were built before numpy 2, and say nothing of it."""
_INSTALL_S = 1800


def find_environment(distribution: str, version: str, cache: Path) -> Path:
    """Return where the environment of ``distribution==version`` is, or is to be."""
    about = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    name = distribution.partition("[")[0]
    return cache / "runtimes" / f"{name}-{version}-{about}"


def python_of(environment: Path) -> Path:
    """Return the interpreter of an environment."""
    windows = sys.platform == "win32"
    return environment / ("Scripts/python.exe" if windows else "bin/python")


def prepare_runtime(distribution: str, version: str, cache: Path, offline: bool = False) -> Path:
    """Return the interpreter of an environment with ``distribution==version``; make it if need be.

    Raises BackendError with the reason: no such version, none for this Python, no network, a full
    disk, or `offline` where it is not there yet.
    """
    final = find_environment(distribution, version, cache)
    python = python_of(final)
    if python.exists():
        return python
    if offline:
        raise BackendError(
            f"{distribution} {version} is not in {final.parent}, and --offline fetches nothing: "
            "run it once without"
        )
    work = final.with_name(f".{final.name}")
    try:
        with filling(work):
            if not python.exists():  # else the process that was waited for has made it
                shutil.rmtree(final, ignore_errors=True)  # its Python has gone
                _make(distribution, version, final, work / temporary_name())
    except OSError as error:
        raise BackendError(
            f"cannot make {final}: {error.strerror or error}; free space, or set FOLDBENCH_CACHE"
        ) from None
    return python


def _make(distribution: str, version: str, final: Path, temporary: Path) -> None:
    try:
        uv = shutil.which("uv")
        _run([uv, "venv", "-q", "-p", sys.executable] if uv else _venv(), str(temporary))
        python = str(python_of(temporary))
        install = [uv, "pip", "install", "-q", "-p", python] if uv else [python, *_PIP]
        for number, numpy in enumerate(_NUMPY):
            _run(install, f"{distribution}=={version}", numpy)
            try:
                _run(
                    [
                        python,
                        "-I",
                        "-c",
                        f"import numpy, {_MODULES[distribution.partition('[')[0]]}",
                    ]
                )
                break
            except BackendError:
                if number + 1 == len(_NUMPY):
                    raise
        os.rename(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


_PIP = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input")


def _venv() -> list[str]:
    return [sys.executable, "-m", "venv"]


def _run(command: Sequence[str], *arguments: str) -> None:
    """Run a program; raise BackendError that says in one line why it failed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_INSTALL_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"installing took more than {_INSTALL_S} s: {arguments[0]}") from None
    if done.returncode != 0:
        raise BackendError(explain_failure(done.stderr or done.stdout, arguments))


def explain_failure(output: str, arguments: Sequence[str] = ()) -> str:
    """Return in one line what an installer says on stderr when it failed."""
    wanted = arguments[0] if arguments else "it"
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    text = " ".join(output.split())
    if "No space left on device" in text:
        return f"cannot install {wanted}: no space left on device"
    _, _, found = text.partition("(from versions: ")
    found = found.partition(")")[0]
    if found == "none" or "Failed to fetch" in text or "error sending request" in text:
        return f"cannot install {wanted}: no package index answers; check the network"
    if found:
        newest = ", ".join(found.split(", ")[-5:])
        return f"there is no {wanted} for {python} on this machine (newest: {newest})"
    if "no version of" in text or "no wheels" in text:
        return f"there is no {wanted} for {python} on this machine"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return cut(
        f"cannot install {wanted}: {lines[-1] if lines else 'the installer said nothing'}", 300
    )

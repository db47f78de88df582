"""Other versions of a runtime, each in a virtual environment of its own in the user's cache.

An environment holds numpy and the runtime, for the Python that runs here. One process makes it,
under a temporary name, tries it, and renames it: one that stands under its own name is whole.
"""

import os
import re
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
_TRIALS = {
    "onnxruntime": "onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros(1, 'f4')).numpy()",
    "openvino": "openvino.Tensor(numpy.zeros(1, 'f4')).data",
}
"""Hands an array to the runtime and back: one built before numpy 2 may import, and crash then."""
_NUMPY = ("numpy", "numpy<2")
"""The second is for runtimes that were built before numpy 2, and say nothing of it."""
_INSTALL_S = 1800
_ABOUT = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
_AVAILABLE = re.compile(r"^Available versions: (.*)$", re.MULTILINE)
_RELEASE = re.compile(r"\d+(\.\d+)*")

Number = tuple[int, ...]


def list_versions(distribution: str, cache: Path, offline: bool = False) -> tuple[str, ...]:
    """Return the releases of a distribution that this Python can install, the oldest first.

    Those that the package index has wheels for and, in any case, those in the `cache`; with
    `offline` the latter alone. Raises BackendError where the index does not answer.
    """
    name = distribution.partition("[")[0]
    kept = (_version_of(folder, name) for folder in (cache / "runtimes").glob(f"{name}-*"))
    found = {version for version in kept if version is not None}
    if not offline:
        uv = shutil.which("uv")
        with_pip = [uv, "run", "-q", "--no-project", "--with", "pip", "-p", sys.executable]
        python = [*with_pip, "python"] if uv else [sys.executable]
        listing = [*python, "-m", "pip", "index", "versions"]
        said = _AVAILABLE.search(run_program(listing, name, doing="list the versions of"))
        found |= {*said[1].split(", ")} if said else set()
    return tuple(sorted(filter(_RELEASE.fullmatch, found), key=number_of))


def number_of(version: str) -> Number:
    """Return the parts of a release's version as numbers, by which releases are in order."""
    return tuple(map(int, version.split(".")))


def within(versions: Sequence[str], low: str, high: str) -> tuple[str, ...]:
    """Return those from `low` to `high`, both included: 1.31 is all of 1.31.0, 1.31.1 and on."""
    first, last = number_of(low), number_of(high)

    def is_within(number: Number) -> bool:
        return first <= number[: len(first)] and number[: len(last)] <= last

    return tuple(version for version in versions if is_within(number_of(version)))


def _version_of(environment: Path, name: str) -> str | None:
    """Return the version that an environment holds; None for one that is not whole."""
    version = environment.name.removeprefix(f"{name}-").removesuffix(f"-{_ABOUT}")
    mine = environment.name == f"{name}-{version}-{_ABOUT}"
    return version if mine and is_whole(environment, name) else None


def is_whole(environment: Path, distribution: str) -> bool:
    """Return whether an environment has its Python and the runtime."""
    module = _MODULES[distribution.partition("[")[0]]
    base = {"base": str(environment), "platbase": str(environment)}
    packages = {sysconfig.get_path(kind, "venv", base) for kind in ("purelib", "platlib")}
    has_runtime = any((Path(folder) / module / "__init__.py").is_file() for folder in packages)
    return python_of(environment).exists() and has_runtime


def find_environment(distribution: str, version: str, cache: Path) -> Path:
    """Return where the environment of ``distribution==version`` is, or is to be."""
    name = distribution.partition("[")[0]
    return cache / "runtimes" / f"{name}-{version}-{_ABOUT}"


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
    if is_whole(final, distribution):
        return python
    if offline:
        raise BackendError(
            f"{distribution} {version} is not in {final.parent}, and --offline fetches nothing: "
            "run it once without"
        )
    work = final.with_name(f".{final.name}")
    try:
        with filling(work):
            if not is_whole(final, distribution):  # else the process that was waited for made it
                shutil.rmtree(final, ignore_errors=True)  # something of it has gone
                _make(distribution, version, final, work / temporary_name())
    except OSError as error:
        raise BackendError(
            f"cannot make {final}: {error.strerror or error}; free space, or set FOLDBENCH_CACHE"
        ) from None
    return python


def _make(distribution: str, version: str, final: Path, temporary: Path) -> None:
    try:
        uv = shutil.which("uv")
        run_program([uv, "venv", "-q", "-p", sys.executable] if uv else _venv(), str(temporary))
        python = str(python_of(temporary))
        install = [uv, "pip", "install", "-q", "-p", python] if uv else [python, *_PIP]
        module = _MODULES[distribution.partition("[")[0]]
        trial = f"import numpy, {module}; {_TRIALS[module]}"
        for number, numpy in enumerate(_NUMPY):
            run_program(install, f"{distribution}=={version}", numpy)
            try:
                run_program([python, "-I", "-c"], trial, doing="run")
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


def run_program(command: Sequence[str], *arguments: str, doing: str = "install") -> str:
    """Return what a program prints; raise BackendError that says in one line why it failed.

    The program is what `doing` the first argument is called in that line.
    """
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
        raise BackendError(f"cannot {doing} {arguments[0]} within {_INSTALL_S} s") from None
    if done.returncode != 0:
        what = arguments[0] if arguments else "it"
        raise BackendError(explain_failure(done.stderr or done.stdout, what, doing))
    return done.stdout


def explain_failure(output: str, wanted: str, doing: str = "install") -> str:
    """Return in one line what an installer says on stderr when it failed."""
    failed = f"cannot {doing} {wanted}"
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    text = " ".join(output.split())
    if "No space left on device" in text:
        return f"{failed}: no space left on device"
    _, _, found = text.partition("(from versions: ")
    found = found.partition(")")[0]
    unknown = "No matching distribution found" in text and not found
    if found == "none" or unknown or "Failed to fetch" in text or "error sending request" in text:
        return f"{failed}: no package index answers; check the network"
    if found:
        newest = ", ".join(found.split(", ")[-5:])
        return f"there is no {wanted} for {python} on this machine (newest: {newest})"
    if "no version of" in text or "no wheels" in text:
        return f"there is no {wanted} for {python} on this machine"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return cut(f"{failed}: {lines[-1] if lines else 'it said nothing'}", 300)

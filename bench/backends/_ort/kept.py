"""What was made of a file to open it faster, kept beside it: engines, and optimised graphs.

Building one of TensorRT's engines takes from seconds to minutes. onnxruntime finds a kept one by
the graph's structure and the GPU's kind, not by its weights: so each file, each set of options and
each version of the libraries has a folder of its own, and an engine is never run for another
network. A graph that onnxruntime has optimised is for one kind of processor and one version of it.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from foldbench.bench.errors import BackendError
from foldbench.bench.host_files.marks import host_facts
from foldbench.bench.store.files import file_sha256, json_sha256

_DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13-libs", "tensorrt-cu12-libs")
_DIGITS = 16
"""Of the hash that names a folder."""


def keep_engines(path: Path, options: Mapping[str, str], onnxruntime_version: str) -> Path:
    """Return the folder of the engines for the .onnx file at `path`; it exists afterwards.

    `options` are the provider's own. Raises BackendError where it cannot be made.
    """
    key = {
        "file": file_sha256(path),
        "options": dict(options),
        "onnxruntime": onnxruntime_version,
        "tensorrt": {name: _version_of(name) for name in _DISTRIBUTIONS},
    }
    return _made(path.parent / "engines" / json_sha256(key)[:_DIGITS], "TensorRT's engines")


def keep_graph(path: Path, onnxruntime_version: str) -> Path:
    """Return where the optimised graph of the .onnx file at `path` is kept; its folder exists.

    The file is known by its size and its time, since to read it for a hash may take as long as to
    open it. Raises BackendError where the folder cannot be made.
    """
    about = path.stat()
    file = [path.name, about.st_size, about.st_mtime_ns]
    key = {"file": file, "for": host_facts(onnxruntime_version)}
    folder = _made(path.parent / "optimised", "optimised graphs")
    return folder / f"{json_sha256(key)[:_DIGITS]}.onnx"


def _made(folder: Path, what: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"cannot make {folder}, where {what} are kept: {error.strerror or error}; "
            "free space, or let the run's folder be written to"
        ) from None
    return folder


def cache_options(folder: Path) -> dict[str, str]:
    """Return the provider's options by which it keeps engines and the times of kernels there."""
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }


def _version_of(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None

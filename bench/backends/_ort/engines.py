"""Engines that TensorRT has built, kept beside the file that they were built from.

Building one takes from seconds to minutes. onnxruntime finds a kept one by the graph's structure
and the GPU's kind, not by its weights: so each file, each set of options and each version of the
libraries has a folder of its own, and an engine is never run for another network.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from foldbench.bench.errors import BackendError
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
    folder = path.parent / "engines" / json_sha256(key)[:_DIGITS]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"cannot make {folder}, where TensorRT's engines are kept: {error.strerror or error}; "
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

"""CUDA C to machine code by NVRTC, which needs neither a GPU nor a CUDA toolkit.

Its library comes with PyTorch's CUDA packages, or stands where the system finds it.
https://docs.nvidia.com/cuda/nvrtc
"""

import ctypes
import sys
from functools import cache
from pathlib import Path

from foldbench.bench.errors import BackendError, one_line

_NAMES = tuple(f"libnvrtc.so.{version}" for version in (13, 12, 11))
_FOLDERS = ("cu13", "cu12", "cuda_nvrtc")
"""Of the packages ``nvidia-cuda-nvrtc*``, within ``nvidia``."""
_BUILTINS = "libnvrtc-builtins.so.*"
"""What NVRTC loads when it compiles."""
_OPTIONS = ("--std=c++17", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")


def compile_cuda(source: str, architecture: str) -> bytes:
    """Return what NVRTC makes of `source` for ``compute_90`` (PTX) or ``sm_90`` (a cubin).

    Raises BackendError without NVRTC, and with its first line when it does not take the code.
    """
    library = _library()
    program = ctypes.c_void_p()
    _check(
        library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), b"foldbench.cu", 0, None, None
        )
    )
    options = [option.encode() for option in (*_OPTIONS, f"--gpu-architecture={architecture}")]
    try:
        code = library.nvrtcCompileProgram(
            program, len(options), (ctypes.c_char_p * len(options))(*options)
        )
        if code:
            log = _read(program, "ProgramLog").decode(errors="replace").strip("\0\n ")
            raise BackendError(
                f"NVRTC does not compile the operators for {architecture}: "
                f"{one_line(ValueError(log or _tell(code)), 200)}"
            )
        return _read(program, "CUBIN" if architecture.startswith("sm_") else "PTX")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def nvrtc_version() -> tuple[int, int]:
    """Return NVRTC's own version; raises BackendError where there is none."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


@cache
def _library() -> ctypes.CDLL:
    packages = [Path(folder) / "nvidia" for folder in sys.path if folder]
    places = [p / folder / "lib" / name for p in packages for folder in _FOLDERS for name in _NAMES]
    for place in (*filter(Path.is_file, places), *map(Path, _NAMES)):
        try:
            for needed in sorted(place.parent.glob(_BUILTINS)):  # found by name once it is loaded
                ctypes.CDLL(str(needed))
            return _typed(ctypes.CDLL(str(place)))
        except OSError:
            continue
    raise BackendError(
        f"CUDA operators need NVRTC, and there is no {_NAMES[0]} here: install the package "
        "nvidia-cuda-nvrtc, which PyTorch's CUDA builds bring along"
    )


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def _read(program: ctypes.c_void_p, what: str) -> bytes:
    """Return the log or the code of `program`."""
    library = _library()
    size = ctypes.c_size_t()
    _check(library[f"nvrtcGet{what}Size"](program, ctypes.byref(size)))
    content = ctypes.create_string_buffer(size.value)
    _check(library[f"nvrtcGet{what}"](program, content))
    return content.raw


def _tell(code: int) -> str:
    return bytes(_library().nvrtcGetErrorString(code)).decode()


def _check(code: int) -> None:
    if code:
        raise BackendError(f"NVRTC failed: {_tell(code)}")

"""What a process has loaded to compute with, read back from the libraries themselves.

Nothing is imported for it: a library that is not there has no say in how fast anything ran.
"""

import sys
from collections.abc import Callable
from typing import Any


def describe_libraries() -> dict[str, Any]:
    """Return, by library, CUDA and cuDNN versions and switches, and the thread pools, as JSON."""
    facts = {"torch": _torch(), "onnxruntime": _onnxruntime(), "thread_pools": _thread_pools()}
    return {name: value for name, value in facts.items() if value}


def _torch() -> dict[str, Any] | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    backends = torch.backends
    return _known(
        {
            "cuda": lambda: torch.version.cuda,
            "cudnn": lambda: backends.cudnn.version() if torch.cuda.is_available() else None,
            "tf32_matmul": lambda: backends.cuda.matmul.allow_tf32,
            "tf32_convolution": lambda: backends.cudnn.allow_tf32,
            "cudnn_search": lambda: backends.cudnn.benchmark,
            "deterministic": torch.are_deterministic_algorithms_enabled,
            "mkldnn": backends.mkldnn.is_available,
            "cpu_capability": backends.cpu.get_cpu_capability,
        }
    )


def _onnxruntime() -> dict[str, Any] | None:
    onnxruntime = sys.modules.get("onnxruntime")
    if onnxruntime is None:
        return None
    return _known(
        {
            "cuda": lambda: onnxruntime.cuda_version or None,
            "build": onnxruntime.get_build_info,
        }
    )


def _thread_pools() -> list[dict[str, Any]]:
    """Return the OpenMP and BLAS libraries that are loaded, with their numbers of threads.

    None without threadpoolctl, which a process that only runs a network may lack.
    """
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []

    kept = {"prefix": "library", "user_api": "kind", "version": "version", "num_threads": "threads"}
    return [
        {name: pool[key] for key, name in kept.items() if pool.get(key) is not None}
        for pool in threadpool_info()
    ]


def _known(questions: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return the answers; another version of a library may not know a question, or refuse it."""
    facts = {}
    for name, ask in questions.items():
        try:
            answer = ask()
        except (AttributeError, RuntimeError):
            continue
        if answer is not None:
            facts[name] = answer
    return facts

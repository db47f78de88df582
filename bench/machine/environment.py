"""What the machine is and what runs on it: the facts without which a latency means nothing."""

import logging
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import foldbench
from foldbench.bench.machine.cpu import (
    ROOT,
    cgroup_cores,
    cpu_name,
    describe_cpu,
    describe_memory,
    usable_cpus,
)
from foldbench.bench.machine.gpu import count_gpus, describe_gpus, open_nvml

_log = logging.getLogger("foldbench")
_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "openvino", "numpy")
_VARIABLES = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ORT_", "TORCH", "PYTORCH_"),
    *("CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "MALLOC_", "LD_PRELOAD"),
)
"""Beginnings of the names of environment variables that a library or the loader obeys."""
_LEFT_OUT = ("NVIDIA_REQUIRE_", "ORT_DISABLE_TELEMETRY")
"""The drivers that a container's image asks for: long, and read before anything here runs. What
`foldbench` sets itself."""


def usable_cores(root: Path = ROOT) -> int:
    """Return how many cores this process may use: affinity mask and cgroup quota."""
    cores, quota = len(usable_cpus()), cgroup_cores(root)
    return max(1, min(cores, math.floor(quota))) if quota else cores


def choose_threads(wanted: int | None, key: str) -> int:
    """Return how many threads an operator gets: those of setting `key`, at most one for each core.

    More only take turns, and a machine comes to a stop over thousands of them.
    """
    cores = usable_cores()
    if wanted is not None and wanted > cores:
        _log.warning(
            "%s is %s, but this process may use %s cores: so many are used", key, wanted, cores
        )
    return min(wanted or cores, cores)


def choose_thread_counts(wanted: Sequence[int | None], key: str) -> tuple[int, ...]:
    """Return several counts, each as `choose_threads` has it, without repeats."""
    return tuple(dict.fromkeys(choose_threads(one, key) for one in wanted))


def has_nvidia_gpu() -> bool:
    """Return whether this machine shows an NVIDIA GPU, whether or not torch can use it."""
    return count_gpus(open_nvml()[0]) > 0


def describe_environment() -> dict[str, Any]:
    """Return the facts to store beside every measurement, as JSON types.

    What cannot be read is left out. They hold no user name, host name or path.
    """
    facts: dict[str, Any] = {
        "foldbench": foldbench.__version__,
        **describe_cpu(),
        "cpu": cpu_name(),
        "cores_usable": usable_cores(),
        "machine": platform.machine(),
        "os": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        **_describe_sizes(),
        **describe_memory(),
        "git_revision": _git_revision(),
    }
    facts |= {name: _version(name) for name in _PACKAGES}
    facts["onnxruntime"] = _version("onnxruntime-gpu", "onnxruntime")
    if hasattr(os, "getloadavg"):
        facts["load_1min"] = round(os.getloadavg()[0], 2)
    facts |= describe_gpus(*open_nvml())
    facts["environment_variables"] = describe_variables(os.environ) or None
    return {key: value for key, value in facts.items() if value is not None}


def _describe_sizes() -> dict[str, Any]:
    """Return the numbers of CPUs and cores, and the memory; less of it without psutil."""
    try:
        import psutil  # not above: processes that are timed use this module, too
    except ImportError:
        names = getattr(os, "sysconf_names", {})
        known = {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(names)
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else None
        return {"cpus_online": os.cpu_count(), "memory_bytes": total}
    memory = psutil.virtual_memory()
    return {
        "cpus_online": psutil.cpu_count(),
        "cores": psutil.cpu_count(logical=False),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
    }


def describe_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that matter to speed, by name; of paths no more than is needed.

    LD_PRELOAD keeps the names of the files. Another value with a path in it is only mentioned.
    """
    found = {}
    for name in sorted(environment):
        if name.startswith(_VARIABLES) and not name.startswith(_LEFT_OUT):
            value = environment[name]
            if name == "LD_PRELOAD":
                files = value.replace(":", " ").split()
                found[name] = " ".join(file.rpartition("/")[2] for file in files)
            else:
                found[name] = "a path" if "/" in value or "\\" in value else value
    return found


def _version(*distributions: str) -> str | None:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _git_revision() -> str | None:
    """Return the revision of foldbench's own checkout, with + when it was changed."""
    home = Path(foldbench.__file__).resolve().parent.parent
    if not (home / ".git").exists():
        return None
    revision = _output("git", "-C", str(home), "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "-C", str(home), "status", "--porcelain", "--untracked-files=no")
    return f"{revision}+" if revision and changed else revision or None


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

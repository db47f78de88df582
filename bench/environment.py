"""What the machine is and what runs on it: the facts without which a latency means nothing."""

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bench

_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "numpy")
_THREAD_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "ORT_", "TORCH", "CUDA_", "MALLOC_")


def usable_cores() -> int:
    """Return how many cores this process may use: affinity mask and cgroup quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cores, math.floor(quota))) if quota else cores


def has_nvidia_gpu() -> bool:
    """Return whether this machine shows an NVIDIA driver, whether or not torch can use it."""
    return bool(_nvidia_smi("--list-gpus"))


def describe_environment() -> dict[str, Any]:
    """Return the facts to store beside every measurement, as JSON types.

    They hold no user name, host name or path.
    """
    facts: dict[str, Any] = {
        "foldbench": bench.__version__,
        "cpu": cpu_name(),
        "cores_usable": usable_cores(),
        "machine": platform.machine(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "memory_bytes": _memory_bytes(),
        "git_revision": _git_revision(),
    }
    facts |= {name: _version(name) for name in _PACKAGES}
    facts["onnxruntime"] = _version("onnxruntime-gpu", "onnxruntime")
    if hasattr(os, "getloadavg"):
        facts["load_1min"] = round(os.getloadavg()[0], 2)
    query = _nvidia_smi("--query-gpu=name,driver_version", "--format=csv,noheader")
    if query:
        name, _, driver = query.splitlines()[0].partition(",")
        facts |= {"gpu": name.strip(), "driver": driver.strip()}
    thread_settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_THREAD_VARIABLES) and "/" not in value
    }
    if thread_settings:
        facts["environment_variables"] = thread_settings
    return {key: value for key, value in facts.items() if value is not None}


def _cgroup_quota() -> float | None:
    """Return the CPU quota in cores that cgroup v2 sets, None for no limit."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        return None


def cpu_name() -> str:
    names = (line.partition(":")[2].strip() for line in _cpu_lines() if "model name" in line)
    return next(names, platform.processor() or platform.machine())


def _cpu_lines() -> Iterator[str]:
    try:
        yield from Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _version(*distributions: str) -> str | None:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _git_revision() -> str | None:
    """Return the revision of foldbench's own checkout, with + when it was changed."""
    home = Path(bench.__file__).resolve().parent.parent
    if not (home / ".git").exists():
        return None
    revision = _output("git", "-C", str(home), "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "-C", str(home), "status", "--porcelain", "--untracked-files=no")
    return f"{revision}+" if revision and changed else revision or None


def _nvidia_smi(*arguments: str) -> str:
    return _output("nvidia-smi", *arguments) if shutil.which("nvidia-smi") else ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

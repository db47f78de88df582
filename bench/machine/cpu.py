"""What psutil does not tell of CPUs and memory, from the files in which Linux tells it.

That is the processor's model and instruction sets, caches, who sets the clock, what slows it down,
and the limits of control groups. A clock is read here as well: psutil gives the nominal one where
the kernel measures none. Processes that are timed read it, and load no library for it.

Every function takes the root of the file system, so that a made-up machine can be described. A file
that is missing or makes no sense gives None: nothing is guessed.
"""

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path("/")

_CPUS = "sys/devices/system/cpu"
_CGROUPS = "sys/fs/cgroup"
_NO_LIMIT_BYTES = 2**60
"""From here on a memory limit of cgroup v1 means none."""
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""Instruction sets that kernels are chosen by."""


def usable_cpus() -> tuple[int, ...]:
    """Return the numbers of the CPUs that the affinity mask allows."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def describe_cpu(root: Path = ROOT, cpus: Sequence[int] | None = None) -> dict[str, Any]:
    """Return the processor, its clock and how it is shared; `cpus` are those that may be used."""
    cpus = usable_cpus() if cpus is None else cpus
    about = _cpuinfo(root)
    flags = about.get("flags", "").split()
    return {
        "cpu": about.get("model name"),
        "cpu_id": _joined(about, "cpu family", "model", "stepping"),
        "cpu_features": [name for name in _FEATURES if name in flags] if flags else None,
        "virtual_machine": "hypervisor" in flags if flags else None,
        "affinity": as_ranges(cpus),
        "cgroup_cores": cgroup_cores(root),
        "clocksource": read_line(
            root / "sys/devices/system/clocksource/clocksource0/current_clocksource"
        ),
        "numa_nodes": len(list(root.glob("sys/devices/system/node/node[0-9]*"))) or None,
        "smt": _switch(root / _CPUS / "smt/active"),
        "sockets": _count_sockets(root),
        **_caches(root),
        **_clock_policy(root, cpus),
        "cpu_mhz_now": read_cpu_mhz(root, cpus),
    }


def has_bfloat16(root: Path = ROOT) -> bool | None:
    """Return whether an x86 processor computes in bfloat16; None where it is not known."""
    features = describe_cpu(root)["cpu_features"]
    return None if features is None else bool({"avx512_bf16", "amx_bf16"} & set(features))


def describe_memory(root: Path = ROOT) -> dict[str, Any]:
    """Return who limits the memory, and when it comes in huge pages."""
    huge_pages = read_line(root / "sys/kernel/mm/transparent_hugepage/enabled") or ""
    return {
        "cgroup_memory_bytes": cgroup_memory_bytes(root),
        "transparent_huge_pages": huge_pages.partition("[")[2].partition("]")[0] or None,
    }


def read_cpu_mhz(root: Path = ROOT, cpus: Sequence[int] | None = None) -> float | None:
    """Return the clock of the fastest CPU of `cpus` (all usable ones by default), MHz.

    None where the kernel does not measure it: without cpufreq and the counters that it takes
    (aperfmperf), /proc/cpuinfo repeats the nominal clock, as most virtual machines do.
    """
    cpus = usable_cpus() if cpus is None else cpus
    files = (root / _CPUS / f"cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in cpus)
    found = [khz / 1000 for khz in map(read_int, files) if khz]
    if not found and "aperfmperf" in _cpuinfo(root).get("flags", "").split():
        found = list(_cpuinfo_mhz(root, set(cpus)))
    return max(found, default=None)


def read_throttle_count(root: Path = ROOT, cpus: Sequence[int] | None = None) -> int | None:
    """Return how often `cpus` were slowed down for their heat since the start, None if unknown."""
    cpus = usable_cpus() if cpus is None else cpus
    counts = [
        read_int(root / _CPUS / f"cpu{cpu}/thermal_throttle/{what}_throttle_count")
        for cpu in cpus
        for what in ("core", "package")
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def cgroup_cores(root: Path = ROOT) -> float | None:
    """Return the CPU time that this process's control groups allow, cores; None for no limit."""
    found = []
    for folder in _cgroup_folders(root, "cpu"):
        words = (read_line(folder / "cpu.max") or "").split()
        if len(words) != 2:
            quota = read_int(folder / "cpu.cfs_quota_us")
            words = [str(quota), str(read_int(folder / "cpu.cfs_period_us"))]
        limit, period = map(_whole, words)
        if limit and period and limit > 0:
            found.append(limit / period)
    return min(found, default=None)


def cgroup_memory_bytes(root: Path = ROOT) -> int | None:
    """Return the memory that this process's control groups allow; None for no limit."""
    found = []
    for folder in _cgroup_folders(root, "memory"):
        limit = read_int(folder / "memory.max") or read_int(folder / "memory.limit_in_bytes")
        if limit and limit < _NO_LIMIT_BYTES:
            found.append(limit)
    return min(found, default=None)


def read_line(path: Path) -> str | None:
    """Return the first line of a file; None where there is no such file, or nothing in it."""
    lines = _lines(path)
    return lines[0].strip() or None if lines else None


def read_int(path: Path) -> int | None:
    """Return the number in a file; None where there is none."""
    return _whole(read_line(path))


def as_ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as Linux writes lists of CPUs: ``0-3,8``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in spans)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _whole(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None


def _switch(path: Path) -> bool | None:
    value = read_int(path)
    return None if value is None else value == 1


def _joined(about: dict[str, str], *names: str) -> str | None:
    return ", ".join(f"{name} {about[name]}" for name in names if name in about) or None


def _cpuinfo(root: Path) -> dict[str, str]:
    """Return the first processor's entries of /proc/cpuinfo."""
    about: dict[str, str] = {}
    for line in _lines(root / "proc/cpuinfo"):
        name, colon, value = line.partition(":")
        if not colon:
            break
        about[name.strip()] = value.strip()
    return about


def _cpuinfo_mhz(root: Path, cpus: set[int]) -> Iterator[float]:
    number: int | None = None
    for line in _lines(root / "proc/cpuinfo"):
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "processor":
            number = _whole(value)
        elif name == "cpu MHz" and number in cpus:
            try:
                yield float(value)
            except ValueError:
                continue


def _count_sockets(root: Path) -> int | None:
    files = root.glob(f"{_CPUS}/cpu[0-9]*/topology/physical_package_id")
    return len({read_int(file) for file in files} - {None}) or None


def _caches(root: Path) -> dict[str, Any]:
    """Return size and number of the caches of levels 2 and 3."""
    found: dict[tuple[int, str], int] = {}
    for folder in root.glob(f"{_CPUS}/cpu[0-9]*/cache/index[0-9]*"):
        level, shared = read_int(folder / "level"), read_line(folder / "shared_cpu_list")
        size = _kibibytes(read_line(folder / "size"))
        if level in (2, 3) and shared and size:
            found[level, shared] = size
    facts: dict[str, Any] = {}
    for level in (2, 3):
        sizes = [size for (other, _), size in found.items() if other == level]
        facts[f"l{level}_bytes"] = max(sizes, default=None)
        facts[f"l{level}_count"] = len(sizes) or None
    return facts


def last_cache_bytes(root: Path = ROOT) -> int | None:
    """Return the size of one cache of the last level; None where the system does not tell."""
    facts = _caches(root)
    return facts["l3_bytes"] or facts["l2_bytes"]


def _kibibytes(text: str | None) -> int | None:
    number = _whole(text[:-1]) if text and text.endswith("K") else None
    return None if number is None else number * 1024


def _clock_policy(root: Path, cpus: Sequence[int]) -> dict[str, Any]:
    """Return who sets the clock, within which limits."""
    folders = [root / _CPUS / f"cpu{cpu}/cpufreq" for cpu in cpus]

    def named(file: str) -> str | None:
        return (
            " and ".join(sorted({text for f in folders if (text := read_line(f / file))})) or None
        )

    def mhz(file: str) -> list[float]:
        return [khz / 1000 for f in folders if (khz := read_int(f / file))]

    return {
        "governor": named("scaling_governor"),
        "clock_driver": named("scaling_driver"),
        "energy_preference": named("energy_performance_preference"),
        "cpu_mhz_min": min(mhz("scaling_min_freq"), default=None),
        "cpu_mhz_max": max(mhz("scaling_max_freq"), default=None),
        "boost": _boost(root, folders),
    }


def _boost(root: Path, folders: Sequence[Path]) -> bool | None:
    """Return whether the clock may rise above its nominal value."""
    no_turbo = _switch(root / _CPUS / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return not no_turbo
    switches = [_switch(path / "boost") for path in (root / _CPUS / "cpufreq", *folders)]
    known = [switch for switch in switches if switch is not None]
    return all(known) if known else None


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders that may limit this process, its own group first, then those around it."""
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = (*line.split(":", 2), "", "", "")[:3]
        if not names:  # version 2, alone or beside version 1
            mounts = [root / _CGROUPS, root / _CGROUPS / "unified"]
        elif controller in names.split(","):
            mounts = [root / _CGROUPS / names, root / _CGROUPS / controller]
        else:
            continue
        own = PurePosixPath(path.lstrip("/"))
        if ".." in own.parts:  # the group lies outside of what this process sees
            own = PurePosixPath()
        for mount in mounts:
            yield from (mount / folder for folder in (own, *own.parents))


def cpu_name() -> str:
    """Return the processor's own name, or its kind where it has none."""
    return describe_cpu()["cpu"] or platform.processor() or platform.machine()

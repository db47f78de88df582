"""How fast the processors are clocked around a block of timed calls, and what holds them back.

Read before the last untimed call and after the last timed one, never in between: a reading costs
from microseconds to milliseconds.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from foldbench.bench.machine.cpu import ROOT, read_cpu_mhz, read_throttle_count
from foldbench.bench.machine.gpu import GpuState, find_first_visible, open_nvml, read_state
from foldbench.bench.samples.timing import Clocks


@dataclass(frozen=True)
class ClockReading:
    """The clocks at one moment; None where unknown."""

    cpu_mhz: float | None = None
    cpu_throttle_count: int | None = None
    """Since the machine was started."""
    gpu: GpuState | None = None


T = TypeVar("T")

ReadClocks = Callable[[], ClockReading]


def read_nothing() -> ClockReading:
    """Return a reading in which nothing is known."""
    return ClockReading()


def make_reader(
    device: str,
    nvml: Any,
    environment: Mapping[str, str],
    root: Path = ROOT,
) -> ReadClocks:
    """Return what reads the clocks of the CPUs and, for a `device` such as ``cuda:0``, of the GPU.

    What cannot be read now is not tried again.
    """
    handle = find_first_visible(nvml, environment) if device.startswith("cuda") else None
    knows_mhz = read_cpu_mhz(root) is not None
    knows_throttling = read_throttle_count(root) is not None

    def read() -> ClockReading:
        return ClockReading(
            cpu_mhz=read_cpu_mhz(root) if knows_mhz else None,
            cpu_throttle_count=read_throttle_count(root) if knows_throttling else None,
            gpu=None if handle is None else read_state(nvml, handle),
        )

    return read


def open_reader(device: str) -> ReadClocks:
    """Return `make_reader` of this machine; NVML is asked for only where `device` is a GPU."""
    nvml = open_nvml()[0] if device.startswith("cuda") else None
    return make_reader(device, nvml, os.environ)


def clocks_between(before: ClockReading, after: ClockReading) -> Clocks | None:
    """Return what two readings tell of the time between them; None where they tell nothing."""
    counts = _pair(before.cpu_throttle_count, after.cpu_throttle_count)
    clocks = Clocks(
        cpu_mhz=_pair(before.cpu_mhz, after.cpu_mhz),
        cpu_throttled=max(0, counts[1] - counts[0]) if counts else None,
        **_gpu_between(before.gpu, after.gpu),
    )
    return None if clocks == Clocks() else clocks


def _gpu_between(before: GpuState | None, after: GpuState | None) -> dict[str, Any]:
    if before is None or after is None:
        return {}
    reasons = _pair(before.throttled, after.throttled)
    foreign = [n for n in (before.foreign_processes, after.foreign_processes) if n is not None]
    return {
        "gpu_mhz": _pair(before.mhz, after.mhz),
        "gpu_throttled": tuple(dict.fromkeys(reasons[0] + reasons[1])) if reasons else None,
        "gpu_celsius": _pair(before.celsius, after.celsius),
        "gpu_watts": _pair(before.watts, after.watts),
        "gpu_foreign_processes": max(foreign, default=None),
    }


def _pair(before: T | None, after: T | None) -> tuple[T, T] | None:
    return None if before is None or after is None else (before, after)

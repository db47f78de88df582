"""NVIDIA GPUs as the driver's own library, NVML, describes them. Nothing is set, only read.

Every function takes the library (or one that stands in for it in a test). What a GPU or a driver
does not tell is None.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

THROTTLING: Mapping[int, str] = {
    0x04: "sw_power_cap",
    0x08: "hw_slowdown",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
}
"""Bits of NVML's clock event reasons by which a clock is lower than the work asks for; the others
say that the GPU is idle or that its clocks were set (nvml.h, nvmlClocksEventReason*)."""


@dataclass(frozen=True)
class GpuState:
    """One GPU at one moment."""

    mhz: float | None
    """Clock of its multiprocessors."""
    throttled: tuple[str, ...] | None
    celsius: float | None
    watts: float | None
    foreign_processes: int | None


def open_nvml() -> tuple[Any, str | None]:
    """Return NVML, ready for questions, or None with the reason why it cannot be had."""
    try:
        import pynvml
    except ImportError:
        return None, "the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, str(error)
    return pynvml, None


def count_gpus(nvml: Any) -> int:
    """Return how many GPUs the driver shows; 0 without NVML."""
    return _ask(nvml, "DeviceGetCount") or 0


def describe_gpus(nvml: Any, reason: str | None = None) -> dict[str, Any]:
    """Return the GPUs and their driver; without NVML (or a GPU) the reason, as `gpus_unknown`."""
    handles = list(_handles(nvml))
    if not handles:
        return {"gpus_unknown": reason or "NVML shows no GPU"}
    chosen = find_first_visible(nvml, os.environ)
    names = [_text(_ask(nvml, "DeviceGetName", handle)) for handle in handles]
    own = _text(_ask(nvml, "DeviceGetName", chosen)) if chosen is not None else None
    cuda = _ask(nvml, "SystemGetCudaDriverVersion")
    return {
        "gpu": own or " or ".join(sorted({name for name in names if name})) or None,
        "driver": _text(_ask(nvml, "SystemGetDriverVersion")),
        "cuda_driver": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        "gpus": [_describe(nvml, handle) for handle in handles],
        "gpus_now": [_describe_now(nvml, handle) for handle in handles],
    }


def find_first_visible(nvml: Any, environment: Mapping[str, str]) -> Any:
    """Return NVML's handle of what CUDA calls device 0; None where that cannot be told.

    CUDA numbers the GPUs that CUDA_VISIBLE_DEVICES leaves over, the fastest first unless
    CUDA_DEVICE_ORDER is PCI_BUS_ID; NVML numbers all of them by bus (CUDA C++ programming guide,
    environment variables). Among GPUs of one kind both orders are the same.
    """
    handles = list(_handles(nvml))
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    first = "0" if visible is None else visible.partition(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        found = _ask(nvml, "DeviceGetHandleByUUID", first)
        parent = _ask(nvml, "DeviceGetDeviceHandleFromMigDeviceHandle", found) if found else None
        return parent if first.startswith("MIG-") else found
    names = {_text(_ask(nvml, "DeviceGetName", handle)) for handle in handles}
    ordered = len(names) == 1 or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if not ordered or not first.isdecimal() or int(first) >= len(handles):
        return None
    return handles[int(first)]


def read_state(nvml: Any, handle: Any) -> GpuState:
    """Return how the GPU is now, for a process that holds a CUDA context on it."""
    reasons = _ask(nvml, "DeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:  # the name before driver 535
        reasons = _ask(nvml, "DeviceGetCurrentClocksThrottleReasons", handle)
    return GpuState(
        mhz=_ask(nvml, "DeviceGetClockInfo", handle, getattr(nvml, "NVML_CLOCK_SM", 1)),
        throttled=None if reasons is None else name_reasons(reasons),
        celsius=_ask(
            nvml, "DeviceGetTemperature", handle, getattr(nvml, "NVML_TEMPERATURE_GPU", 0)
        ),
        watts=_watts(_ask(nvml, "DeviceGetPowerUsage", handle)),
        foreign_processes=_count_foreign(nvml, handle),
    )


def read_own_memory_bytes(nvml: Any, handle: Any) -> int | None:
    """Return the memory of the GPU that this process holds; None where NVML does not list it."""
    found = _ask(nvml, "DeviceGetComputeRunningProcesses", handle) or ()
    own = [process.usedGpuMemory for process in found if process.pid == os.getpid()]
    return None if not own or None in own else sum(own)


def name_reasons(bits: int) -> tuple[str, ...]:
    """Return what holds the clock back, of NVML's set of bits."""
    return tuple(name for bit, name in THROTTLING.items() if bits & bit)


def _describe(nvml: Any, handle: Any) -> dict[str, Any]:
    capability = _ask(nvml, "DeviceGetCudaComputeCapability", handle)
    memory = _ask(nvml, "DeviceGetMemoryInfo", handle)
    sm, memory_clock = getattr(nvml, "NVML_CLOCK_SM", 1), getattr(nvml, "NVML_CLOCK_MEM", 2)
    return _known(
        {
            "name": _text(_ask(nvml, "DeviceGetName", handle)),
            "uuid": _text(_ask(nvml, "DeviceGetUUID", handle)),
            "compute_capability": ".".join(map(str, capability)) if capability else None,
            "memory_bytes": getattr(memory, "total", None),
            "mhz_max": _ask(nvml, "DeviceGetMaxClockInfo", handle, sm),
            "memory_mhz_max": _ask(nvml, "DeviceGetMaxClockInfo", handle, memory_clock),
            "power_limit_watts": _watts(_ask(nvml, "DeviceGetEnforcedPowerLimit", handle)),
            "ecc": _current(_ask(nvml, "DeviceGetEccMode", handle)),
            "mig": _current(_ask(nvml, "DeviceGetMigMode", handle)),
            "persistence": _current(_ask(nvml, "DeviceGetPersistenceMode", handle)),
        }
    )


def _describe_now(nvml: Any, handle: Any) -> dict[str, Any]:
    state = read_state(nvml, handle)
    pids = _processes(nvml, handle)
    return _known(
        {
            "mhz": state.mhz,
            "memory_mhz": _ask(
                nvml, "DeviceGetClockInfo", handle, getattr(nvml, "NVML_CLOCK_MEM", 2)
            ),
            "celsius": state.celsius,
            "watts": state.watts,
            "processes": None if pids is None else len(set(pids) - {os.getpid()}),
        }
    )


def _count_foreign(nvml: Any, handle: Any) -> int | None:
    """Return how many processes that are no part of this comparison hold the GPU.

    Ours are those with the same parent. None where NVML does not list this very process, which
    holds the GPU: then it counts in another name space (a container's) and nothing can be told.
    """
    pids = _processes(nvml, handle)
    if pids is None or os.getpid() not in pids:
        return None
    own_pids = {os.getpid(), os.getppid()}
    return sum(pid not in own_pids and _parent_of(pid) != os.getppid() for pid in set(pids))


def _parent_of(pid: int) -> int | None:
    """Return a process's parent: the fourth field of its stat, after a name in brackets."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _processes(nvml: Any, handle: Any) -> Sequence[int] | None:
    found = _ask(nvml, "DeviceGetComputeRunningProcesses", handle)
    return None if found is None else [process.pid for process in found]


def _handles(nvml: Any) -> Iterator[Any]:
    for index in range(count_gpus(nvml)):
        handle = _ask(nvml, "DeviceGetHandleByIndex", index)
        if handle is not None:
            yield handle


def _ask(nvml: Any, question: str, *arguments: Any) -> Any:
    """Return NVML's answer; None where it (or this GPU) has none."""
    function = getattr(nvml, f"nvml{question}", None)
    if function is None:
        return None
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def _text(value: Any) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _watts(milliwatts: float | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _current(mode: Any) -> bool | None:
    """Return whether a mode is on; some are given with the one after the next reboot."""
    value = mode[0] if isinstance(mode, list | tuple) else mode
    return None if value is None else value == 1


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}

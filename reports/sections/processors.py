"""What a reader should know of the processors: their clocks, and what the GPU is and was doing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from foldbench.bench import units
from foldbench.bench.records import Clocks, Run


def describe_fact(facts: Mapping[str, Any], key: str, before: str = "", after: str = "") -> str:
    """Return the value of `key` between two texts; blank where it is missing or empty."""
    value = facts.get(key)
    return "" if value in (None, "") else f"{before}{units.plain(value)}{after}"


def join_facts(parts: Sequence[str]) -> str:
    """Return those of `parts` that are not blank, with commas between."""
    return ", ".join(part for part in parts if part)


def describe_clocks(run: Run) -> str:
    """Return governor, boost and clock of the CPUs; blank where the system tells nothing."""
    environment = run.environment
    limits = _range(environment.get("cpu_mhz_min"), environment.get("cpu_mhz_max"))
    seen = _seen(run, lambda clocks: clocks.cpu_mhz)
    slowed = [clocks for clocks in _clocks(run) if clocks.cpu_throttled]
    return join_facts(
        [
            describe_fact(environment, "governor", "governor "),
            describe_fact(environment, "boost", "boost "),
            f"allowed {limits} MHz" if limits else "",
            f"{_range(*seen)} MHz around the blocks" if seen else "",
            f"slowed down for heat in {len(slowed)} blocks" if slowed else "",
        ]
    )


def describe_gpu(run: Run) -> str:
    """Return the GPU, its driver, limits and modes, and its state around the blocks."""
    environment = run.environment
    gpus = environment.get("gpus") or []
    about: Mapping[str, Any] = next((g for g in gpus if g.get("name") == environment["gpu"]), {})
    return join_facts(
        [
            describe_fact(environment, "gpu"),
            units.size(about.get("memory_bytes")),
            describe_fact(environment, "driver", "driver "),
            describe_fact(environment, "cuda_driver", "for CUDA up to "),
            describe_fact(about, "mhz_max", "at most ", " MHz"),
            describe_fact(about, "power_limit_watts", "power limit ", " W"),
            *(describe_fact(about, mode, f"{name} ") for mode, name in _MODES.items()),
            *_libraries(run),
            *_gpu_seen(run),
        ]
    )


_MODES = {"ecc": "ECC", "mig": "MIG", "persistence": "persistence mode"}


def _gpu_seen(run: Run) -> Iterator[str]:
    """Yield the range of clock, and the most of heat and power, around the blocks."""
    mhz = _seen(run, lambda clocks: clocks.gpu_mhz)
    celsius = _seen(run, lambda clocks: clocks.gpu_celsius)
    watts = _seen(run, lambda clocks: clocks.gpu_watts)
    if mhz:
        yield f"{_range(*mhz)} MHz around the blocks"
    if celsius:
        yield f"up to {units.whole(celsius[1])} °C"
    if watts:
        yield f"up to {units.whole(watts[1])} W"


def _libraries(run: Run) -> Iterator[str]:
    """Yield what the rows that ran on a GPU found loaded."""
    on_gpu = [m for m in run.measurements if (m.actual_device or "").startswith("cuda")]
    found = [lib for m in on_gpu for lib in (m.libraries or {}).values() if isinstance(lib, dict)]
    for key, name in (("cuda", "CUDA"), ("cudnn", "cuDNN")):
        versions = sorted({str(library[key]) for library in found if key in library})
        if versions:
            yield f"{name} {' and '.join(versions)}"
    keys = ("tf32_matmul", "tf32_convolution")
    switches = {library[key] for library in found for key in keys if key in library}
    if switches:
        yield "TF32 partly on" if len(switches) > 1 else f"TF32 {units.plain(*switches)}"


def _clocks(run: Run) -> list[Clocks]:
    blocks = (b for m in run.measurements for timing in m.timings for b in timing.blocks)
    return [block.clocks for block in blocks if block.clocks is not None]


def _seen(
    run: Run, read: Callable[[Clocks], tuple[float, float] | None]
) -> tuple[float, float] | None:
    values = [value for pair in map(read, _clocks(run)) if pair for value in pair]
    return (min(values), max(values)) if values else None


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return (
        units.whole(low) if round(low) == round(high) else f"{units.whole(low)}–{units.whole(high)}"
    )

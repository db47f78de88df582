"""Warnings about clock speeds, and about who else and what else was on the GPU."""

from collections.abc import Callable, Iterator, Mapping

from foldbench.bench import units
from foldbench.bench.analysis.advice.rule import Advice, Number, Rule, about, setting, timed
from foldbench.bench.analysis.clean import clean_blocks
from foldbench.bench.analysis.estimates import relative_range
from foldbench.bench.analysis.speedups import completed
from foldbench.bench.records import Clocks, Run, Timing

CLOCK_LIMIT = 0.03
"""Range of the clock over the clean blocks, divided by their median."""

_THROTTLED = {
    "sw_power_cap": "its power limit",
    "hw_slowdown": "a slowdown by its hardware",
    "sw_thermal_slowdown": "its heat",
    "hw_thermal_slowdown": "its heat",
    "hw_power_brake_slowdown": "a brake on its power supply",
}
"""NVML's reasons as text."""

_COOL = "Let it cool down, or measure for a shorter time, and measure again"
_RAISE = "Ask who runs the machine to raise the power limit, or to lock a clock that it can hold"


def _clocks(timing: Timing) -> list[Clocks]:
    return [block.clocks for block in clean_blocks(timing) if block.clocks is not None]


def _find_throttled(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed(run):
        blocks = _clocks(timing)
        gpu = [reason for clocks in blocks for reason in clocks.gpu_throttled or ()]
        held = [clocks for clocks in blocks if clocks.gpu_throttled or clocks.cpu_throttled]
        if held:
            reasons = [_THROTTLED.get(reason, reason) for reason in gpu] or ["its heat"]
            numbers: dict[str, Number] = {
                "chip": "the GPU" if gpu else "a CPU",
                "blocks_count": len(held),
                "of_count": len(blocks),
                "reasons": " and ".join(dict.fromkeys(reasons)),
                "remedy": _RAISE if "its heat" not in reasons else _COOL,
            }
            yield about(kind, m, timing, len(held) / len(blocks), numbers)


_LOCK: Mapping[str, str] = {
    "CPU": "Set the governor to performance (cpupower frequency-set -g performance), plug in a "
    "laptop, or switch boost off",
    "GPU": "Let the clock be locked to one that it can hold (nvidia-smi --lock-gpu-clocks)",
}
_SPEEDS: Mapping[str, Callable[[Clocks], tuple[float, float] | None]] = {
    "CPU": lambda clocks: clocks.cpu_mhz,
    "GPU": lambda clocks: clocks.gpu_mhz,
}


def _find_clock_moved(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed(run):
        on_gpu = (m.actual_device or "").startswith("cuda")
        chip = "GPU" if on_gpu else "CPU"
        pairs = [pair for pair in map(_SPEEDS[chip], _clocks(timing)) if pair is not None]
        speeds = [(before + after) / 2 for before, after in pairs]
        moved = relative_range(speeds)
        if moved is not None and moved > CLOCK_LIMIT:
            numbers: dict[str, Number] = {
                "chip": chip,
                "moved_ratio": moved,
                "slowest": units.whole(min(speeds)),
                "fastest": units.whole(max(speeds)),
                "limit_ratio": CLOCK_LIMIT,
                "remedy": _LOCK[chip],
            }
            yield about(kind, m, timing, moved, numbers)


def _find_foreign_gpu(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed(run):
        most = max((c.gpu_foreign_processes or 0 for c in _clocks(timing)), default=0)
        if most:
            yield about(kind, m, timing, most, {"processes_count": most})


def _find_not_resident(run: Run, kind: str) -> Iterator[Advice]:
    if setting(run, "boundaries") == "host":
        return
    for m in completed(run):
        if not m.not_resident:
            continue
        resident = {t.batch_size for t in m.timings if t.boundary == "device"}
        missing = [t for t in m.timings if t.batch_size not in resident]
        numbers: dict[str, Number] = {"reason": m.not_resident, "when": ""}
        if resident and missing:
            yield from (about(kind, m, t, -t.batch_size, numbers) for t in missing)
        else:
            numbers["when"] = " in every repetition" if resident else ""
            yield Advice(kind, m.contender, numbers=numbers)


CLOCK_RULES: Mapping[str, Rule] = {
    "throttled": Rule(
        "latency",
        _find_throttled,
        "{where}: {chip} was slowed down by {reasons} in {blocks_count} of {of_count} blocks, so "
        "its times are those of a slower processor. {remedy}.",
    ),
    "clock_moved": Rule(
        "latency",
        _find_clock_moved,
        "{where}: the clock of the {chip} moved by {moved_ratio} between blocks, from {slowest} to "
        "{fastest} MHz (limit {limit_ratio}), and the times with it. {remedy}; or believe no "
        "difference up to that size.",
    ),
    "foreign_gpu": Rule(
        "latency",
        _find_foreign_gpu,
        "{where}: others held the same GPU (processes: {processes_count}). What they compute is in "
        "these times: end them, or choose another GPU with CUDA_VISIBLE_DEVICES.",
    ),
    "not_resident": Rule(
        "latency",
        _find_not_resident,
        "{where}: not timed on the device without transfers{when}: {reason}. Its figures from "
        "host to host stand; --set compare.boundaries=host leaves the others out.",
    ),
}

"""What else ran while a block was timed, as the kernel counts it.

The kernel notes how long each thread was ready to run but had no CPU (run_delay). On a quiet
machine that is next to nothing; one busy neighbour makes it most of the block. It costs a few file
reads before and after a block, none in between. Linux alone has it; elsewhere figures are None.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from foldbench.bench.samples.timing import Interference

_TASKS = Path("/proc/self/task")
_PRESSURE = Path("/proc/pressure/cpu")
_CPU_TIMES = Path("/proc/stat")


@dataclass(frozen=True)
class Counters:
    """Running totals at one moment; differences of two of them mean something."""

    wall_s: float
    cpu_s: float
    """CPU time of this process."""
    run_delay_s: float | None
    """Time that this process's threads were ready but not running."""
    pressure_s: float | None
    """Time in which anything on the machine was ready but not running (PSI)."""
    steal_s: float | None
    """Time that a hypervisor gave to other machines, summed over CPUs."""
    busy_s: float | None = None
    """CPU time that all programs on the machine used, this one included."""


def read_counters() -> Counters:
    """Return the totals of now, seconds."""
    return Counters(
        wall_s=time.perf_counter(),
        cpu_s=time.process_time(),
        run_delay_s=_read_run_delay_s(),
        pressure_s=_read_pressure_s(),
        steal_s=_read_steal_s(),
        busy_s=_read_busy_s(),
    )


def measure_between(before: Counters, after: Counters) -> Interference:
    """Return what happened between two moments, as shares of the time between them."""
    wall_s = max(after.wall_s - before.wall_s, 1e-9)

    def share(first_s: float | None, last_s: float | None) -> float | None:
        return None if first_s is None or last_s is None else max(0.0, last_s - first_s) / wall_s

    return Interference(
        run_delay_ratio=share(before.run_delay_s, after.run_delay_s),
        cpu_ratio=(after.cpu_s - before.cpu_s) / wall_s,
        pressure_ratio=share(before.pressure_s, after.pressure_s),
        steal_ratio=share(before.steal_s, after.steal_s),
    )


def measure_foreign_between(before: Counters, after: Counters) -> float | None:
    """Return how many cores others kept busy between two moments; None where unknown."""
    if before.busy_s is None or after.busy_s is None:
        return None
    foreign_s = (after.busy_s - before.busy_s) - (after.cpu_s - before.cpu_s)
    return max(0.0, foreign_s) / max(after.wall_s - before.wall_s, 1e-9)


def measure_foreign_load(duration_s: float = 0.5) -> float | None:
    """Return how many cores others keep busy while this process sleeps; None where unknown."""
    before, started_s = _read_busy_s(), time.perf_counter()
    time.sleep(duration_s)
    after, elapsed_s = _read_busy_s(), time.perf_counter() - started_s
    return None if before is None or after is None else max(0.0, after - before) / elapsed_s


def _read_run_delay_s() -> float | None:
    """Return the second field of schedstat (nanoseconds), summed over this process's threads."""
    total_ns, seen = 0, False
    try:
        tasks = list(os.scandir(_TASKS))
    except OSError:
        return None
    for task in tasks:
        try:
            total_ns += int(Path(task.path, "schedstat").read_text(encoding="ascii").split()[1])
            seen = True
        except (OSError, IndexError, ValueError):
            continue  # the thread ended, or this kernel does not count
    return total_ns / 1e9 if seen else None


def _read_pressure_s() -> float | None:
    """Return the total of the line ``some`` (microseconds)."""
    try:
        line = _PRESSURE.read_text(encoding="ascii").splitlines()[0]
        return int(line.rpartition("total=")[2]) / 1e6
    except (OSError, IndexError, ValueError):
        return None


def _read_cpu_times_s() -> list[float] | None:
    """Return user, nice, system, idle, iowait, irq, softirq and steal of all CPUs together."""
    try:
        fields = _CPU_TIMES.read_text(encoding="ascii").splitlines()[0].split()[1:9]
        return [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
    except (OSError, IndexError, ValueError):
        return None


def _read_steal_s() -> float | None:
    times = _read_cpu_times_s()
    return times[7] if times and len(times) == 8 else None


def _read_busy_s() -> float | None:
    times = _read_cpu_times_s()
    return sum(times[:3]) + sum(times[5:7]) if times and len(times) == 8 else None

"""What the kernel tells of a block: nothing on a quiet thread, much beside a busy one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foldbench.bench.machine.interference import (
    Counters,
    measure_between,
    measure_foreign_load,
    read_counters,
)

LINUX = Path("/proc/self/schedstat").exists()


def counters(**values: float | None) -> Counters:
    zero = {"wall_s": 0.0, "cpu_s": 0.0, "run_delay_s": 0.0, "pressure_s": 0.0, "steal_s": 0.0}
    return Counters(**{**zero, **values})


def test_shares_are_of_the_time_between_the_two_moments() -> None:
    seen = measure_between(
        counters(wall_s=1.0, cpu_s=1.0),
        counters(wall_s=3.0, cpu_s=4.0, run_delay_s=0.5, pressure_s=0.2, steal_s=0.1),
    )
    assert (seen.run_delay_ratio, seen.cpu_ratio) == (0.25, 1.5)
    assert (seen.pressure_ratio, seen.steal_ratio) == (0.1, 0.05)


def test_a_total_that_went_back_because_a_thread_ended_counts_as_nothing() -> None:
    seen = measure_between(counters(run_delay_s=5.0), counters(wall_s=1.0, run_delay_s=4.0))
    assert seen.run_delay_ratio == 0


def test_what_the_system_does_not_tell_is_none() -> None:
    nothing = counters(run_delay_s=None, pressure_s=None, steal_s=None)
    seen = measure_between(nothing, nothing)
    assert (seen.run_delay_ratio, seen.pressure_ratio, seen.steal_ratio) == (None, None, None)


@pytest.mark.skipif(not LINUX, reason="this system does not count run_delay")
def test_waiting_for_a_cpu_is_seen() -> None:
    """Two busy processes on one CPU: one of them waits while the other runs."""
    core = min(os.sched_getaffinity(0))
    code = (
        "import os, sys, time\n"
        f"os.sched_setaffinity(0, {{{core}}})\n"
        "from foldbench.bench.machine.interference import read_counters, measure_between\n"
        "before = read_counters(); end = time.perf_counter() + 0.4\n"
        "while time.perf_counter() < end: pass\n"
        "print(measure_between(before, read_counters()).run_delay_ratio)\n"
    )
    busy = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    neighbours = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(2)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    assert float(done.stdout) > 0.2


@pytest.mark.skipif(not LINUX, reason="this system does not count run_delay")
def test_reading_gives_totals_that_do_not_go_back() -> None:
    before, after = read_counters(), read_counters()
    assert after.wall_s >= before.wall_s
    assert after.cpu_s >= before.cpu_s
    assert before.run_delay_s is not None
    assert after.run_delay_s is not None
    assert after.run_delay_s >= before.run_delay_s


def test_foreign_load_is_a_number_of_cores_or_unknown() -> None:
    load = measure_foreign_load(0.05)
    assert load is None or 0 <= load <= (os.cpu_count() or 1) * 2

"""Pauses before timed calls: they are waited for, not timed, and what they cost is counted."""

from pathlib import Path

import numpy as np
import pytest

from foldbench.bench.machine.clocks import ClockReading
from foldbench.bench.machine.cpu import last_cache_bytes
from foldbench.bench.samples.calling import PausedBlock
from foldbench.bench.timing.loop import BlockOptions, InPauses, time_block
from foldbench.bench.timing.pauses import Pauses, Usage
from foldbench.bench.timing.simulation import FakeClock, FakeSession

BATCHES = [np.zeros((1, 1, 1, 1), np.float32)]


class Sleepy(FakeSession):
    """Takes 10 ms where it has not been called for 50 ms or more, and 1 ms otherwise."""

    def __init__(self, clock: FakeClock) -> None:
        self._ended_s = clock()
        super().__init__(self._duration, clock)

    def _duration(self, size: int) -> float:
        return 10e-3 if self._clock() - self._ended_s >= 50e-3 else 1e-3

    def step(self) -> None:
        super().step()
        self._ended_s = self._clock()


def time_after(pause_s: float, in_pauses: InPauses = "rest") -> PausedBlock:
    clock = FakeClock()
    options = BlockOptions(4, 0.0, 0.0, pause_s=pause_s, in_pauses=in_pauses)
    timed = time_block(Sleepy(clock), BATCHES, options, clock, sleep=clock.advance)
    assert isinstance(timed.block, PausedBlock)
    return timed.block


def test_a_call_after_a_long_pause_has_the_time_that_it_takes_then() -> None:
    assert time_after(0.0).samples_s == pytest.approx([1e-3] * 4)
    assert time_after(20e-3).samples_s == pytest.approx([1e-3] * 4)
    assert time_after(100e-3).samples_s == pytest.approx([10e-3] * 4)


def test_calls_in_the_pause_keep_it_warm_and_are_not_timed() -> None:
    assert time_after(100e-3, "untimed calls").samples_s == pytest.approx([1e-3] * 4)


def test_pauses_are_as_long_as_asked_even_where_calls_are_made_in_them() -> None:
    for in_pauses in ("rest", "untimed calls"):
        costs = time_after(100e-3, in_pauses).costs
        assert costs is not None
        assert costs.paused_s == pytest.approx(0.4)


def test_caches_are_emptied_once_at_the_end_of_each_pause() -> None:
    clock, emptied = FakeClock(), []
    pauses = Pauses(0.5, None, lambda: emptied.append(clock()), clock, clock.advance)
    for _ in range(2):
        pauses.before_call()
    assert emptied == pytest.approx([0.5, 1.0])


def test_the_last_cache_is_that_of_the_highest_level(tmp_path: Path) -> None:
    for index, level, size in ((0, 2, "2048K"), (1, 3, "32768K")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("size", size), ("shared_cpu_list", "0-1")):
            (folder / name).write_text(f"{text}\n")
    assert last_cache_bytes(tmp_path) == 32 * 2**20
    assert last_cache_bytes(tmp_path / "nowhere") is None


def test_the_clocks_are_read_after_a_pause_and_after_the_last_call() -> None:
    clock, read_s = FakeClock(), []

    def read() -> ClockReading:
        read_s.append(clock())
        return ClockReading()

    options = BlockOptions(2, 0.0, 0.0, pause_s=1.0)
    time_block(Sleepy(clock), BATCHES, options, clock, read, clock.advance)
    settled_s = 10e-3 + 1e-3
    assert read_s[0] == pytest.approx(settled_s + 0.1, abs=20e-3)
    assert read_s[1] - read_s[0] == pytest.approx(2 * 1.01 + 10e-3, abs=20e-3)


def test_what_pauses_cost_is_counted_apart_from_what_calls_cost() -> None:
    totals = iter(
        [
            Usage(1.0, 10, 0, 5, 0),  # the pause begins
            Usage(1.4, 12, 0, 5, 0),  # and ends: 0.4 s of spinning
            Usage(1.5, 15, 1, 8, 2),  # the call has ended
        ]
    )
    clock = FakeClock()
    pauses = Pauses(1.0, None, None, clock, clock.advance, lambda: next(totals))
    pauses.before_call()
    pauses.after_call()
    costs = pauses.costs()
    assert costs is not None
    assert (costs.paused_s, costs.pause_cpu_s) == pytest.approx((1.0, 0.4))
    assert costs.call_cpu_s == pytest.approx(0.1)
    assert (costs.switches, costs.preemptions, costs.minor_faults, costs.major_faults) == (
        3, 1, 3, 2,
    )  # fmt: skip


def test_a_system_that_counts_nothing_gives_times_all_the_same() -> None:
    clock = FakeClock()
    pauses = Pauses(0.5, None, None, clock, clock.advance, lambda: None)
    pauses.before_call()
    pauses.after_call()
    assert clock() == pytest.approx(0.5)
    assert pauses.costs() is None


def test_blocks_without_pauses_are_as_they_were() -> None:
    clock = FakeClock()
    timed = time_block(Sleepy(clock), BATCHES, BlockOptions(3, 0.0, 0.0), clock)
    assert type(timed.block).__name__ == "Block"

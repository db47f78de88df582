"""Memory of a process: as the kernel tells it, and what calls add to it."""

import mmap
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.analysis.memory import growth_of
from foldbench.bench.samples.calling import MemoryUse
from foldbench.bench.timing.memory import (
    held_after_calls,
    read_pss_bytes,
    read_status_bytes,
    reset_peak,
)
from foldbench.bench.timing.simulation import FakeClock

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def used(held: list[int], calls_each: int = 100) -> MemoryUse:
    return MemoryUse(calls_each=calls_each, held_bytes=tuple(held))


@on_linux
def test_a_leak_is_found_in_a_real_process() -> None:
    kept: list[mmap.mmap] = []

    def leak() -> None:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # an allocator may have room
        kept.append(mmap.mmap(-1, 3 * mmap.PAGESIZE, flags=private))
        kept[-1].write(b"x" * 3 * mmap.PAGESIZE)

    each, held = held_after_calls(leak, 2000, 60.0, FakeClock())
    growth = growth_of(used(list(held), each))
    assert growth is not None
    assert growth.verdict == "leaks"
    assert growth.point == pytest.approx(3 * mmap.PAGESIZE, rel=0.15)


@on_linux
def test_the_kernel_tells_of_this_process_and_of_no_other_field() -> None:
    resident = read_status_bytes("VmRSS")
    assert resident is not None
    assert resident > 2**20
    assert read_status_bytes("NoSuchField") is None
    pss = read_pss_bytes()
    assert pss is None or 0 < pss <= 2 * resident


def test_where_the_system_does_not_tell_nothing_is_called_and_nothing_said(tmp_path: Path) -> None:
    assert read_status_bytes("VmRSS", tmp_path) is None
    assert not reset_peak(tmp_path / "gone")
    calls = []
    _, held = held_after_calls(lambda: calls.append(1), 2000, 60.0, FakeClock(), lambda: None)
    assert (held, calls) == ((), [])
    assert growth_of(used([])) is None


@given(st.integers(200, 10**6), st.integers(0, 2**33))
def test_the_same_growth_in_every_segment_is_a_leak(per_call: int, start: int) -> None:
    held = [start + 100 * per_call * n for n in range(21)]
    growth = growth_of(used(held))
    assert growth is not None
    assert growth.verdict == "leaks"
    assert growth.low == pytest.approx(per_call) == growth.high


@given(st.integers(0, 20), st.integers(1, 10**9))
def test_one_step_of_an_allocator_is_no_leak(at: int, step: int) -> None:
    growth = growth_of(used([10**9 + step * (n > at) for n in range(21)]))
    assert growth is not None
    assert growth.verdict == "no leak found"


def test_too_few_calls_give_no_verdict() -> None:
    growth = growth_of(used([10**6 * n for n in range(21)], calls_each=99))
    assert growth is not None
    assert growth.verdict is None


def test_readings_end_with_their_time() -> None:
    clock = FakeClock()
    each, held = held_after_calls(lambda: clock.advance(0.1), 2000, 25.0, clock, lambda: 1)
    assert (each, len(held)) == (100, 4)

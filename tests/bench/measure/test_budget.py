"""What the budget is spent on: each device's own, blocks that fit it, and what is said if not."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import QUIET, make_job
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.budget import find_shortage, plan_processes, round_duration_s, shorten
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.latency import measure_latency
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.series import MeasurementSeries, to_timing
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Boundary, Role, Timing
from foldbench.bench.samples.timing import Block
from foldbench.bench.timing.loop import (
    BlockOptions,
    WarmUp,
    check_synchronized,
    time_block,
    warm_up,
)
from foldbench.bench.timing.schedule import RoundPlan
from foldbench.bench.timing.simulation import FakeClock, FakeGpuSession, FakeSession
from foldbench.bench.workers.protocol import Opened

BLOCK = BlockOptions(calls=10, block_s=0.15, settle_s=0.1)
TENTH = WarmUp(first_call_s=0.1, calls=31, converged=True, call_s=0.1, turn_s=0.1)


def batch(size: int) -> np.ndarray:
    return np.zeros((size, 1, 1, 1), np.float32)


class Paced:
    """A worker without a process, whose calls take a known time of a clock that all share."""

    def __init__(self, session: FakeSession, clock: FakeClock) -> None:
        self.session = session
        self.clock = clock

    def warm_up(self, batch_size: int, least_s: float, boundary: Boundary = "host") -> WarmUp:
        return warm_up(self.session, [batch(batch_size)], least_s, self.clock, boundary)

    def time(self, batch_size: int, options: BlockOptions) -> tuple[Block, int]:
        timed = time_block(self.session, [batch(batch_size)], options, self.clock)
        return replace(timed.block, **QUIET), timed.settle_calls

    def close(self) -> None:
        pass


def row(
    clock: FakeClock,
    image_s: float,
    backend: str = "torch",
    role: Role = "contender",
    device: str = "cpu",
) -> Contender:
    """A contender that takes `image_s` seconds for each image of a batch."""

    def step_s(size: int) -> float:
        return image_s * size

    session = (
        FakeSession(step_s, clock)
        if device == "cpu"
        else FakeGpuSession(step_s, clock, transfer_s=0.0)
    )
    spec = ContenderSpec(backend, "unfolded", device, Path(), role=role)
    made = Contender(spec, Paced(session, clock))
    resident = device == "cuda"
    made.result.opened = Opened(session.device, "fake", 1, "float32", 0.0, 0.0, resident=resident)
    return made


class Heard(NullListener):
    """Keeps what is said, and how many blocks were timed before."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, int]] = []
        self.blocks = 0

    def note(self, text: str) -> None:
        self.notes.append((text, self.blocks))

    def advance(self, done: int, text: str = "") -> None:
        self.blocks += 1


def timing_of(contender: Contender, size: int = 1, boundary: Boundary = "host") -> Timing:
    return to_timing(contender.result.times, MeasurementSeries(size, boundary))


def calls_of(timing: Timing) -> set[int]:
    return {len(block.samples_s) for block in timing.blocks}


def test_blocks_are_as_configured_where_enough_rounds_fit() -> None:
    assert round_duration_s([TENTH] * 10, BLOCK) == pytest.approx(13)
    assert find_shortage([TENTH] * 10, BLOCK, RoundPlan(20, 209)) is None
    assert find_shortage([], BLOCK, RoundPlan(20, 1)) is None


@pytest.mark.parametrize(
    ("budget_s", "calls", "block_s", "needed_s"), [(129, 5, 0.075, 64), (25, 5, 0.04, 64)]
)
def test_blocks_are_halved_until_enough_rounds_fit_or_they_are_the_shortest(
    budget_s: float, calls: int, block_s: float, needed_s: float
) -> None:
    found = find_shortage([TENTH] * 10, BLOCK, RoundPlan(20, budget_s))
    assert found is not None
    assert (found.rounds, found.calls, found.block_s) == (8, calls, block_s)
    assert (found.needed_s, found.budget_s) == (pytest.approx(needed_s), budget_s)
    assert shorten(BLOCK, found) == BlockOptions(calls, block_s, BLOCK.settle_s)


def test_blocks_that_are_short_already_are_made_no_longer() -> None:
    short = BlockOptions(calls=3, block_s=0.0, settle_s=0.0)
    found = find_shortage([TENTH], short, RoundPlan(2, 1.0))
    assert found is not None
    assert (found.rounds, found.calls, found.block_s) == (2, 3, 0.0)
    assert found.needed_s == pytest.approx(1.2)


@pytest.mark.parametrize("settle_s", [0.0, 1.5])
@pytest.mark.parametrize("boundary", ["host", "device"])
def test_the_expected_time_of_a_block_is_what_one_takes(
    boundary: Boundary, settle_s: float
) -> None:
    clock = FakeClock()
    session = FakeGpuSession(lambda size: 0.25, clock, transfer_s=0.125)
    warm = warm_up(session, [batch(1)], 0.0, clock, boundary)
    options = BlockOptions(calls=3, block_s=4.0, settle_s=settle_s, boundary=boundary)
    started = clock()
    time_block(session, [batch(1)], options, clock)
    if boundary == "device":
        check_synchronized(session, batch(1), clock)
    assert round_duration_s([warm], options) == pytest.approx(clock() - started, rel=0.05)


def test_the_rounds_of_one_device_take_nothing_from_those_of_another() -> None:
    clock = FakeClock()
    cpu, cuda = row(clock, 0.5), row(clock, 0.001, device="cuda")
    settings = CompareSection(batch_sizes=(1,), rounds=20, budget_s=30, warm_up_s=0)
    measure_latency([cpu, cuda], settings, NullListener(), clock=clock)
    assert timing_of(cpu).stopped == "budget"
    for boundary in ("host", "device"):
        timing = timing_of(cuda, boundary=boundary)
        assert (timing.stopped, len(timing.blocks), timing.shortage) == ("rounds", 20, None)
    spent = sum(cpu.result.times.untimed_calls.values()) + len(timing_of(cpu).samples_s())
    assert spent * 0.5 <= 30 + 3 * 8, "the last round and the warm-up beside its own budget"


def test_one_thread_is_timed_at_the_smallest_batch_size_alone() -> None:
    clock = FakeClock()
    rows = [
        row(clock, 0.001),
        row(clock, 0.001, role="again"),
        row(clock, 0.002, role="one_thread"),
    ]
    measure_latency(
        rows, CompareSection(batch_sizes=(4, 1), warm_up_s=0), NullListener(), clock=clock
    )
    sizes = [{series.batch_size for series in r.result.times.blocks} for r in rows]
    assert sizes == [{1, 4}, {1, 4}, {1}]
    assert [len(timing_of(r).blocks) for r in rows] == [20, 20, 20]


def shortened(budget_s: float, repeat: int = 1) -> tuple[list[Contender], Heard]:
    """Two contenders, of 0.1 and 0.05 s a call: a round takes 1.95 s as configured, or 1.2 s."""
    clock, heard = FakeClock(), Heard()
    rows = [row(clock, 0.1), row(clock, 0.05, "ort")]
    settings = CompareSection(
        batch_sizes=(1,), budget_s=budget_s, settle_s=0, warm_up_s=0, repeat=repeat
    )
    for number in range(1, repeat + 1):
        measure_latency(rows, settings, heard, number, clock)
    return rows, heard


def test_shorter_blocks_leave_room_for_a_speed_up_and_are_alike_in_all_rounds() -> None:
    rows, heard = shortened(budget_s=20)
    for contender in rows:
        timing = timing_of(contender)
        assert calls_of(timing) == {5}
        assert len(timing.blocks) >= 8
        assert timing.shortage is not None
        assert (timing.shortage.calls, timing.shortage.block_s) == (5, 0.075)
        assert timing.shortage.needed_s == pytest.approx(8 * 1.2)
    ((text, blocks_before),) = heard.notes
    assert blocks_before == 0
    assert "5 calls" in text


def test_a_budget_that_is_too_small_for_a_speed_up_is_named_before_the_first_block() -> None:
    rows, heard = shortened(budget_s=5)
    timing = timing_of(rows[0])
    assert timing.shortage is not None
    assert (timing.shortage.needed_s, timing.shortage.budget_s) == (pytest.approx(9.6), 5)
    assert (timing.stopped, len(timing.blocks)) == ("budget", 5)
    ((text, blocks_before),) = heard.notes
    assert blocks_before == 0
    assert {"8", "9.60", "5.00"} <= set(text.split())


def test_a_series_that_has_nothing_left_of_the_budget_has_a_share_of_0() -> None:
    clock = FakeClock()
    rows = [row(clock, 10.0), row(clock, 10.0, "ort")]
    settings = CompareSection(batch_sizes=(1, 2, 3), budget_s=5, settle_s=0, warm_up_s=0)
    measure_latency(rows, settings, NullListener(), clock=clock)
    shortages = [timing_of(rows[0], size).shortage for size in (1, 2, 3)]
    assert [shortage and shortage.budget_s for shortage in shortages] == [
        pytest.approx(5 / 3),
        0,
        0,
    ]


def test_a_repetition_goes_on_with_blocks_of_the_same_length() -> None:
    rows, heard = shortened(budget_s=26, repeat=2)
    for contender in rows:
        timing = timing_of(contender)
        assert {block.repeat for block in timing.blocks} == {1, 2}
        assert calls_of(timing) == {5}
    assert len(heard.notes) == 1
    rows, heard = shortened(budget_s=100, repeat=2)
    assert calls_of(timing_of(rows[0])) == {10}
    assert heard.notes == []


def generations(
    budget_s: float, start_s: float, real_s: float | None = None, processes: int = 4
) -> tuple[list[Contender], Heard]:
    """Two contenders as in `shortened` whose processes take `start_s` to start, or in fact more."""
    clock, heard = FakeClock(), Heard()
    rows = [row(clock, 0.1), row(clock, 0.05, "ort")]
    for one in rows:
        one.open_s = start_s / 2

    def restart(chosen: Sequence[Contender]) -> None:
        clock.advance(start_s if real_s is None else real_s)

    settings = CompareSection(
        batch_sizes=(1,), budget_s=budget_s, settle_s=0, warm_up_s=0, processes=processes
    )
    measure_latency(rows, settings, heard, clock=clock, restart=restart)
    return rows, heard


def processes_of(contender: Contender) -> list[int]:
    return [block.process for block in timing_of(contender).blocks]


def test_the_rounds_are_spread_over_the_processes() -> None:
    rows, heard = generations(budget_s=120, start_s=2)
    for contender in rows:
        assert processes_of(contender) == [p for p in (1, 2, 3, 4) for _ in range(5)]
        assert [b.round for b in timing_of(contender).blocks] == list(range(1, 21))
    assert heard.notes == []


def test_starts_are_paid_from_the_budget() -> None:
    rows, _ = generations(budget_s=40, start_s=6)
    spent = sum(
        len(timing_of(one).samples_s()) * s for one, s in zip(rows, (0.1, 0.05), strict=True)
    )
    assert set(processes_of(rows[0])) == {1, 2, 3, 4}
    assert 10 < spent + 3 * 6 <= 40 + 4 * 2
    assert timing_of(rows[0]).stopped == "budget"


def test_a_budget_that_carries_fewer_processes_is_told_so_before_the_first_block() -> None:
    rows, heard = generations(budget_s=40, start_s=20)
    assert set(processes_of(rows[0])) == {1, 2}
    ((text, blocks_before), *_) = heard.notes
    assert blocks_before == 0
    assert {"2", "4"} <= set(text.split())


def test_starts_that_take_longer_than_the_first_ones_end_the_rounds() -> None:
    rows, _ = generations(budget_s=60, start_s=5, real_s=50)
    for contender in rows:
        assert set(processes_of(contender)) == {1, 2}
        assert timing_of(contender).stopped == "budget"


def test_processes_that_import_at_the_same_time_leave_room_for_more_of_them() -> None:
    def count(lanes: int) -> int:
        clock = FakeClock()
        one = row(clock, 0.05)
        one.load_s, one.open_s = 40, 2
        settings = CompareSection(batch_sizes=(1,), budget_s=40, settle_s=0, warm_up_s=0)
        measure_latency(
            [one], settings, NullListener(), clock=clock, restart=lambda _: None, lanes=lanes
        )
        return len(set(processes_of(one)))

    assert [count(lanes) for lanes in (1, 4, 20)] == [1, 2, 4]


def test_later_processes_are_warmed_up_for_less() -> None:
    clock = FakeClock()
    one = row(clock, 0.01)
    asked: list[tuple[int, float]] = []

    class Noting(Paced):
        def warm_up(self, batch_size: int, least_s: float, boundary: Boundary = "host") -> WarmUp:
            asked.append((batch_size, least_s))
            return super().warm_up(batch_size, least_s, boundary)

    one.worker = Noting(FakeSession(lambda size: 0.01 * size, clock), clock)
    settings = CompareSection(batch_sizes=(1, 2), budget_s=60, processes=2)
    measure_latency([one], settings, NullListener(), clock=clock, restart=lambda _: None)
    assert asked == [(1, 0.5), (2, 0.5), (1, 0.25), (2, 0.1)]


class Anew:
    """A worker without a process that opens on a device of its own choice."""

    def __init__(self, device: str) -> None:
        self.device = device

    def load(self) -> None:
        pass

    def open(self) -> Opened:
        return Opened(self.device, "fake", 1, "float32", import_s=9.0, open_s=9.0)

    def expect(self, logits: np.ndarray) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("device", "status"), [("cpu", "ok"), ("cuda:0", "failed")])
def test_the_record_keeps_the_first_start_and_refuses_one_elsewhere(
    device: str, status: str
) -> None:
    one = row(FakeClock(), 0.1)
    first = one.result.opened
    one.worker = None
    one.load_anew(make_job(Path("images.npy")), lambda _: Anew(device))
    one.open_anew(np.zeros((1, 2), np.float32))
    assert (one.result.opened, one.result.status) == (first, status)


@pytest.mark.parametrize(
    ("asked", "start_s", "planned"),
    [(4, 0, 4), (4, 5, 4), (4, 40, 2), (4, 50, 1), (1, 5, 1), (8, 5, 7), (8, 15, 4)],
)
def test_few_processes_may_take_half_of_the_budget_and_more_of_them_a_third(
    asked: int, start_s: float, planned: int
) -> None:
    assert plan_processes(asked, start_s, 90) == planned


def test_nothing_is_said_where_there_is_time_enough() -> None:
    rows, heard = shortened(budget_s=120)
    assert heard.notes == []
    assert [timing_of(r).shortage for r in rows] == [None, None]
    assert [len(timing_of(r).blocks) for r in rows] == [20, 20]

"""Pauses of a comparison: which ways are called, and what a record of them says."""

import dataclasses
from pathlib import Path

import pytest

from builders import make_row
from foldbench.bench.analysis.pauses import pause_finding, pause_rows, worst_pause
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.calling.pauses import calls_after, measure_pauses
from foldbench.bench.measure.calling.processes import Processes
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import NullListener
from foldbench.bench.records import AsCalled, CallCosts, PausedBlock, PauseSeries
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.workers.protocol import Opened

OPENED = Opened("cpu", "fake", 2, "float32", 0.0, 0.0)


class Worker:
    """Takes 1 ms back to back; ten times that after 100 ms, unless it is kept warm."""

    def warm_up(self, size: int, least_s: float) -> None:
        assert size == 1

    def time(self, size: int, options: BlockOptions) -> tuple[PausedBlock, int]:
        pause_s = options.pause_s or 0.0
        slow = pause_s >= 0.1 and options.in_pauses != "untimed calls"
        cold = options.in_pauses == "empty caches"
        call_s = 10e-3 if slow else 2e-3 if cold else 1e-3
        return PausedBlock(samples_s=(call_s,) * options.calls), 3

    def close(self) -> None:
        """Nothing to end."""


class Starter(Processes):
    """Gives every runner a worker and notes its name."""

    def __init__(self) -> None:
        super().__init__(lambda job: None)  # type: ignore[arg-type, return-value]
        self.started: list[str] = []

    def open(self, runner: Contender, row: Contender) -> None:
        self.started.append(runner.name)
        runner.worker = Worker()  # type: ignore[assignment]


def measure(
    *contenders: tuple[str, str], pauses_s: tuple[float, ...] = (0.0, 0.1)
) -> tuple[list[Contender], list[str]]:
    """Measure a backend with a variant each; return them and what had processes, in order."""
    rows = [Contender(ContenderSpec(*one, "cpu", Path("x.onnx"))) for one in contenders]
    for row in rows:
        row.result.opened = OPENED
    processes = Starter()
    settings = CompareSection.model_validate(
        {"rounds": 8, "processes": 1, "calling": {"pauses_s": pauses_s}}
    )
    measure_pauses(rows, settings, NullListener(), processes)
    return rows, processes.started


def series_of(contender: Contender) -> list[tuple[str, float, int]]:
    """Return switch, pause and number of blocks of each of its series."""
    found = contender.result.as_called
    assert found is not None
    return [(one.switch, one.pause_s, len(one.blocks)) for one in found.pauses]


def test_a_switch_of_the_runtime_has_a_process_of_its_own_and_what_is_done_in_pauses_has_not() -> (
    None
):
    (contender,), started = measure(("ort:micro=8", "folded"), pauses_s=(0.0, 0.1, 0.01))
    assert started == [
        "ort:micro=8/folded/cpu",
        "ort:micro=8/folded/cpu",
        "ort:micro=8/folded/cpu 1 thread",
        "ort:micro=8+no_spin/folded/cpu",
    ]
    assert series_of(contender) == [
        ("", 0.0, 16),
        ("", 0.1, 16),
        ("", 0.01, 8),
        ("kept warm", 0.1, 8),
        ("cold caches", 0.0, 8),
        ("one thread", 0.1, 8),
        ("no spin-wait", 0.1, 8),
    ]
    assert contender.result.as_called is not None
    slow = contender.result.as_called.pauses[1].blocks
    assert [(block.round, block.process) for block in slow[7:9]] == [(8, 1), (9, 2)]


def test_the_cause_is_sought_in_one_contender_of_each_runtime_that_a_pause_slows() -> None:
    names = ("ort", "folded"), ("torch", "folded"), ("ort:micro=8", "folded")
    found, _ = measure(*names)
    assert [len(series_of(one)) for one in found] == [6, 5, 2]
    unhurried, started = measure(*names, pauses_s=(0.0, 0.01))
    assert [len(series_of(one)) for one in unhurried] == [2, 2, 2]
    assert len(started) == 3


def test_only_onnxruntime_has_a_spin_wait_to_switch_off() -> None:
    _, started = measure(("torch", "folded"))
    assert started == [*["torch/folded/cpu"] * 2, "torch/folded/cpu 1 thread"]


def test_a_pause_that_makes_calls_slower_is_found_with_its_remedy() -> None:
    (contender,), _ = measure(("torch", "folded"))
    row = make_row("torch", "folded", as_called=contender.result.as_called)
    finding = pause_finding(row)
    assert finding is not None
    assert worst_pause([make_row("ort", "folded"), row]) == finding
    assert finding.worst.pause_s == 0.1
    assert finding.worst.multiple is not None
    assert finding.worst.multiple.point == pytest.approx(10)
    assert finding.remedy is not None
    assert finding.remedy.switch == "kept warm"
    assert finding.remedy_ratio is not None
    assert finding.remedy_ratio.point == pytest.approx(10)
    assert finding.cold_caches is not None
    assert finding.cold_caches.point == pytest.approx(2)


def test_a_remedy_is_not_known_from_a_few_rounds() -> None:
    (contender,), _ = measure(("torch", "folded"))
    found = contender.result.as_called
    assert found is not None
    few = tuple(
        dataclasses.replace(one, blocks=one.blocks[:2]) if one.switch else one
        for one in found.pauses
    )
    known, unknown = (
        pause_finding(make_row("torch", "folded", as_called=AsCalled(pauses=series)))
        for series in (found.pauses, few)
    )
    assert known is not None
    assert unknown is not None
    assert (known.is_remedy_known, unknown.is_remedy_known) == (True, False)
    assert (unknown.remedy, unknown.cold_caches) == (None, None)


def block(number: int, call_s: float, calls: int = 1, paused_s: float = 1.0) -> PausedBlock:
    costs = CallCosts(
        paused_s=paused_s,
        pause_cpu_s=0.25 * paused_s,
        call_cpu_s=0.0,
        switches=2 * calls,
        preemptions=calls,
        minor_faults=4 * calls,
        major_faults=0,
    )
    return PausedBlock(round=number, samples_s=(call_s,) * calls, costs=costs)


def rows_of(rounds: int, calls: int, pause_call_s: float) -> list:
    series = [
        PauseSeries(
            pause_s=pause_s,
            switch="",
            blocks=tuple(block(n, call_s * (1 + 0.001 * n), calls) for n in range(rounds)),
        )
        for pause_s, call_s in ((0.0, 1e-3), (1.0, pause_call_s))
    ]
    return pause_rows(make_row("ort", "folded", as_called=AsCalled(pauses=tuple(series))))


def test_costs_are_shares_of_the_pause_and_means_of_a_call() -> None:
    back_to_back, paused = rows_of(10, 3, 2e-3)
    assert (back_to_back.idle_cores, back_to_back.multiple) == (None, None)
    assert paused.idle_cores == pytest.approx(0.25)
    assert (paused.switches, paused.faults) == (3, 4)
    assert paused.multiple.point == pytest.approx(2)
    assert paused.verdict == "slower"


def test_p95_is_blank_below_200_calls_and_a_verdict_below_five_rounds() -> None:
    few, many = rows_of(4, 49, 2e-3), rows_of(4, 50, 2e-3)
    assert few[1].p95_s is None
    assert many[1].p95_s is not None
    assert many[1].verdict is None


def test_a_pause_that_changes_nothing_is_no_finding() -> None:
    series = rows_of(10, 3, 1e-3)
    assert series[1].verdict == "no difference resolved"
    assert pause_finding(make_row("ort", "folded")) is None


def test_long_pauses_have_few_calls_a_block_and_short_ones_many() -> None:
    assert [calls_after(s) for s in (0.0, 1e-3, 0.1, 1.0, 10.0)] == [25, 25, 3, 1, 1]


def test_what_has_failed_keeps_its_reason() -> None:
    one = PauseSeries(pause_s=0.0, switch="", blocks=(), reason="out of memory")
    (row,) = pause_rows(make_row("ort", "folded", as_called=AsCalled(pauses=(one,))))
    assert (row.calls, row.median_s, row.reason) == (0, None, "out of memory")

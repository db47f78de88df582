"""Cold starts: fresh processes in turns; what was warm already is not called cold."""

from pathlib import Path

import pytest

from builders import make_row, make_run
from foldbench.bench.analysis.cold_starts import cold_start_rows
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BackendError
from foldbench.bench.machine.page_cache import drop_page_cache
from foldbench.bench.measure.calling.cold_starts import measure_cold_starts, to_cold_start
from foldbench.bench.measure.calling.processes import Processes
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import NullListener
from foldbench.bench.records import AsCalled, ColdStart, ColdStarts
from foldbench.bench.workers.protocol import Opened

BACKENDS = ("torch", "torch_compile", "ort")
OPENED = Opened("cpu", "fake", 2, "float32", 0.5, 0.25, 0.2, second_run_s=0.05)


class Worker:
    """A process that has opened its network."""

    def __init__(self, process_id: int) -> None:
        self.process_id = process_id

    def close(self) -> None:
        """Nothing to end."""


class Starter(Processes):
    """Notes who was started; every process is a new one unless `ids` says otherwise."""

    def __init__(self, ids: tuple[int, ...] = ()) -> None:
        super().__init__(lambda job: None)  # type: ignore[arg-type, return-value]
        self.started: list[str] = []
        self._ids = ids or tuple(range(1000))

    def start(self, runner: Contender, row: Contender) -> None:
        runner.worker = Worker(self._ids[len(self.started)])  # type: ignore[assignment]
        runner.result.opened, runner.load_s, runner.open_s = OPENED, 1.5, 0.5
        self.started.append(runner.name)


def start(ids: tuple[int, ...] = (), **calling: object) -> tuple[list[Contender], Starter]:
    rows = [Contender(ContenderSpec(b, "folded", "cpu", Path("x"))) for b in BACKENDS]
    settings = CompareSection.model_validate({"calling": {"cold_starts": 5, **calling}})
    processes = Starter(ids)
    measure_cold_starts(rows, settings, NullListener(), processes)
    return rows, processes


def starts_of(row: Contender) -> ColdStarts:
    assert row.result.as_called is not None
    return row.result.as_called.cold_starts[0]


def test_contenders_are_started_in_turns() -> None:
    rows, processes = start()
    first, *later = processes.started
    assert first == "ort:saved/folded/cpu", "what saves the graph is not counted"
    backends = (*BACKENDS, "torch_compile:no_cache", "ort:saved")
    turns = [later[n : n + 5] for n in range(0, 25, 5)]
    assert all(set(turn) == {f"{b}/folded/cpu" for b in backends} for turn in turns)
    for row in rows:
        starts = starts_of(row)
        assert (len(starts.starts), starts.page_cache, starts.reason) == (5, "warm", None)


def test_what_a_runtime_keeps_for_later_starts_is_there_and_is_not() -> None:
    rows, _ = start()
    found = [row.result.as_called for row in rows]
    prepared = [[one.preparation for one in of.cold_starts] for of in found if of]
    assert prepared == [[""], ["", "compiled anew"], ["", "saved graph"]]


def test_a_file_that_is_optimised_already_saves_no_graph() -> None:
    row = Contender(ContenderSpec("ort", "int8.host", "cpu", Path("x")))
    settings = CompareSection.model_validate({"calling": {"cold_starts": 1}})
    measure_cold_starts([row], settings, NullListener(), Starter())
    assert row.result.as_called is not None
    assert len(row.result.as_called.cold_starts) == 1


def test_a_start_is_the_process_the_import_the_opening_and_the_first_call() -> None:
    one = to_cold_start(OPENED, 2.0)
    assert one.process_s == pytest.approx(1.0)
    assert one.answer_s == pytest.approx(1.95)


def test_a_process_that_was_there_before_is_no_cold_start() -> None:
    rows, _ = start(ids=(1, 2, 3, 4, 5, 6, 2, *range(10, 40)))
    found = [row.result.as_called for row in rows]
    reasons = [one.reason for of in found if of for one in of.cold_starts if one.reason]
    assert len(reasons) == 1
    assert "process 2 was used again" in reasons[0]


def test_a_process_with_its_runtime_loaded_is_no_cold_start() -> None:
    warm = Opened("cpu", "fake", 2, "float32", 0.5, 0.2, 0.2, 0.1, preloaded=("torch",))
    with pytest.raises(BackendError, match="had loaded torch"):
        to_cold_start(warm, 2.0)


def make_starts(seconds: float, count: int) -> ColdStarts:
    return ColdStarts(
        page_cache="warm",
        starts=tuple(
            ColdStart(
                process_s=seconds * (1 + 0.01 * n),
                import_s=0.0,
                open_s=0.0,
                first_call_s=0.0,
                second_call_s=0.0,
            )
            for n in range(count)
        ),
    )


@pytest.mark.parametrize(("count", "verdict"), [(2, None), (10, "faster")])
def test_a_faster_start_is_called_so_where_there_are_enough(
    count: int, verdict: str | None
) -> None:
    rows = [
        make_row(name, "folded", as_called=AsCalled(cold_starts=(make_starts(s, count),)))
        for name, s in (("torch", 2.0), ("ort", 1.0))
    ]
    first, second = cold_start_rows(make_run("bn_cnn", measurements=tuple(rows)))
    assert first.speedup is None
    assert second.speedup is not None
    assert second.speedup.point == pytest.approx(2)
    assert second.verdict == verdict
    assert second.answer is not None
    assert (second.answer.low_s is None) == (count < 5)


def test_dropping_the_page_cache_says_why_it_cannot(tmp_path: Path) -> None:
    assert drop_page_cache(tmp_path / "drop_caches") is None
    assert (tmp_path / "drop_caches").read_text(encoding="ascii") == "1\n"
    refused = drop_page_cache(tmp_path / "not" / "there")
    assert refused is not None
    assert "warm" in refused

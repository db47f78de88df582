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
    rows = [Contender(ContenderSpec(b, "folded", "cpu", Path("x"))) for b in ("torch", "ort")]
    settings = CompareSection.model_validate({"calling": {"cold_starts": 5, **calling}})
    processes = Starter(ids)
    measure_cold_starts(rows, settings, NullListener(), processes)
    return rows, processes


def starts_of(row: Contender) -> ColdStarts:
    assert row.result.as_called is not None
    (starts,) = row.result.as_called.cold_starts
    return starts


def test_contenders_are_started_in_turns() -> None:
    rows, processes = start()
    turns = [processes.started[n : n + 2] for n in range(0, 10, 2)]
    assert all(set(turn) == {"torch/folded/cpu", "ort/folded/cpu"} for turn in turns)
    for row in rows:
        starts = starts_of(row)
        assert (len(starts.starts), starts.page_cache, starts.reason) == (5, "warm", None)


def test_a_start_is_the_process_the_import_the_opening_and_the_first_call() -> None:
    one = to_cold_start(OPENED, 2.0)
    assert one.process_s == pytest.approx(1.0)
    assert one.answer_s == pytest.approx(1.95)


def test_a_process_that_was_there_before_is_no_cold_start() -> None:
    rows, _ = start(ids=(1, 2, 1, *range(10, 20)))
    reasons = [starts_of(row).reason for row in rows]
    assert sum(reason is not None for reason in reasons) == 1
    assert any("process 1 was used again" in str(reason) for reason in reasons)


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

"""Loads and batches in turns: more of them while more give more, and not one further."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders import make_row
from foldbench.bench.analysis.streams import best_of, stream_rows
from foldbench.bench.analysis.sweep import best_batch, sweep_rows
from foldbench.bench.backends import Floats
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BackendError
from foldbench.bench.measure.calling.processes import Processes
from foldbench.bench.measure.calling.streams import measure_streams
from foldbench.bench.measure.calling.sweep import measure_sweep
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import NullListener
from foldbench.bench.records import AsCalled, Block, StreamBlock
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.workers.protocol import Opened

CORES = 2
LOCKED, FREE = "torch", "ort"
"""Backends of the tests: one serves one call at a time, the other as many as there are cores."""


class Worker:
    """A process whose calls take 1 ms of one core, and a batch 1 ms with 0.1 ms an image."""

    def __init__(self, backend: str, opened: list[tuple[str, int]]) -> None:
        self._backend, self._opened = backend, opened
        self._streams = 1

    def know(self, logits: Floats) -> None:
        """Keep nothing."""

    def open(self) -> None:
        """Nothing to open."""

    def warm_up(self, size: int, least_s: float) -> None:
        """Nothing to warm."""
        if self._backend == LOCKED and size > 8:
            raise BackendError("out of memory")

    def open_streams(self, size: int, streams: int, threads: int, shared: bool) -> None:
        self._streams = streams
        self._opened.append((self._backend, streams))

    def time_streams(self, size: int, *options: float) -> StreamBlock:
        at_once = 1 if self._backend == LOCKED else min(self._streams, CORES)
        call_s = 1e-3 * self._streams / at_once
        calls = 10 * self._streams
        return StreamBlock(samples_s=(call_s,) * calls, wall_s=1e-3 * calls / at_once)

    def time(self, size: int, options: BlockOptions) -> tuple[Block, int]:
        batch_s = max(1e-3, 0.25e-3 * size)  # from batch 4 on, images/s are what they are
        return Block(samples_s=(batch_s,) * 3), 3

    def close(self) -> None:
        """Nothing to end."""


class Starter(Processes):
    """Gives every runner a worker."""

    def __init__(self) -> None:
        super().__init__(lambda job: None)  # type: ignore[arg-type, return-value]
        self.opened: list[tuple[str, int]] = []

    def answers(self, row: Contender) -> Floats:
        return np.zeros((1, 10), np.float32)

    def bare(self, runner: Contender, row: Contender) -> None:
        runner.worker = Worker(runner.spec.backend, self.opened)  # type: ignore[assignment]


def measure(how: Callable[..., None], **calling: object) -> tuple[dict[str, AsCalled], Starter]:
    rows = [Contender(ContenderSpec(b, "folded", "cpu", Path("x"))) for b in (LOCKED, FREE)]
    for row in rows:
        row.result.opened = Opened("cpu", "fake", 1, "float32", 0.0, 0.0)
    settings = {"rounds": 8, "processes": 1, "batch_sizes": (1,), "calling": calling}
    processes = Starter()
    how(rows, CompareSection.model_validate(settings), NullListener(), processes)
    found = {row.spec.backend: row.result.as_called for row in rows}
    assert all(found.values())
    return found, processes  # type: ignore[return-value]


def test_streams_end_where_more_give_no_more() -> None:
    found, processes = measure(measure_streams, streams=(1, 2, 4, 8))
    free = [(one.streams, one.sharing) for one in found[FREE].streams]
    assert free == [
        (1, "sessions"), (2, "sessions"), (2, "callers"), (4, "sessions"), (4, "callers"),
    ]  # fmt: skip
    assert max(streams for _, streams in processes.opened) == 4


def test_a_session_that_only_looks_concurrent_is_found_out() -> None:
    found, _ = measure(measure_streams, streams=(1, 2, 4))
    locked = make_row(LOCKED, "folded", as_called=found[LOCKED])
    assert [one.streams for one in found[LOCKED].streams] == [1, 2, 2]
    two = stream_rows(locked)[1]
    assert two.gain is not None
    assert two.gain.point == pytest.approx(1)
    assert two.verdict == "no difference resolved"
    assert two.slowdown is not None
    assert two.slowdown.point == pytest.approx(2)
    best = best_of(locked)
    assert best is not None
    assert best.series.streams == 1


def test_openvino_also_runs_several_streams_of_its_own() -> None:
    row = Contender(ContenderSpec("openvino", "folded", "cpu", Path("x")))
    row.result.opened = Opened("cpu", "fake", 1, "float32", 0.0, 0.0)
    settings = {"rounds": 8, "processes": 1, "batch_sizes": (1,), "calling": {"streams": (1, 2)}}
    processes = Starter()
    measure_streams([row], CompareSection.model_validate(settings), NullListener(), processes)
    assert row.result.as_called is not None
    assert [one.sharing for one in row.result.as_called.streams] == [
        "sessions", "sessions", "callers", "streams",
    ]  # fmt: skip
    assert ("openvino:streams=2", 2) in processes.opened


def test_on_cuda_each_session_of_torch_has_a_stream_of_its_own() -> None:
    row = Contender(ContenderSpec("torch", "folded", "cuda", Path("x")))
    row.result.opened = Opened("cuda:0", "fake", 1, "float32", 0.0, 0.0)
    settings = {"rounds": 8, "processes": 1, "batch_sizes": (1,), "calling": {"streams": (1, 2)}}
    processes = Starter()
    measure_streams([row], CompareSection.model_validate(settings), NullListener(), processes)
    assert {backend for backend, _ in processes.opened} == {"torch:own_stream"}


def test_the_best_load_is_the_one_with_the_most_calls_a_second() -> None:
    found, _ = measure(measure_streams, streams=(1, 2))
    best = best_of(make_row(FREE, "folded", as_called=found[FREE]))
    assert best is not None
    assert best.gain is not None
    assert (best.series.streams, best.gain.point) == (2, pytest.approx(2))
    assert best.calls_per_s == pytest.approx(2000)


def test_batches_are_doubled_until_images_a_second_no_longer_rise() -> None:
    found, _ = measure(measure_sweep, sweep=True)
    row = make_row(FREE, "folded", as_called=found[FREE])
    assert [one.batch_size for one in sweep_rows(row)] == [1, 2, 4, 8]
    best = best_batch(row)
    assert best is not None
    assert best.batch_size == 4


def test_a_batch_that_does_not_fit_is_a_reason_and_the_others_go_on() -> None:
    class Endless(Worker):
        def time(self, size: int, options: BlockOptions) -> tuple[Block, int]:
            return Block(samples_s=(1e-3,) * 3), 3

    class EndlessStarter(Starter):
        def bare(self, runner: Contender, row: Contender) -> None:
            runner.worker = Endless(runner.spec.backend, [])  # type: ignore[assignment]

    rows = [Contender(ContenderSpec(b, "folded", "cpu", Path("x"))) for b in (LOCKED, FREE)]
    calling = {"sweep": True, "sweep_most": 64}
    settings = {"rounds": 8, "processes": 1, "batch_sizes": (1,), "calling": calling}
    section = CompareSection.model_validate(settings)
    measure_sweep(rows, section, NullListener(), EndlessStarter())
    locked, free = (row.result.as_called for row in rows)
    assert locked is not None
    assert free is not None
    assert [one.batch_size for one in locked.sweep] == [1, 2, 4, 8, 16]
    assert locked.sweep[-1].reason == "out of memory"
    assert locked.sweep[-2].reason is None
    assert [one.batch_size for one in free.sweep] == [1, 2, 4, 8, 16, 32, 64]

"""A comparison that is killed or interrupted: every block is kept, and the rest can follow."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from builders import QUIET, compare_one, make_checkpoint, make_run, make_scenario, sha
from foldbench.bench.cli import cli
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BackendError, RunError
from foldbench.bench.measure.contenders import ContenderSpec, Subject
from foldbench.bench.measure.evaluation import Evaluation
from foldbench.bench.measure.resume import Part, describe_opening, measure_or_resume
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.samples import read_samples, replay, unfinished_record
from foldbench.bench.records import Boundary, Measurement, Run
from foldbench.bench.samples.timing import Block
from foldbench.bench.stages.report import store_comparison
from foldbench.bench.store.directory import RunDirectory, create_run
from foldbench.bench.timing.loop import BlockOptions, WarmUp
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job, Opened

LABELS = np.arange(10, dtype=np.int64)
ROUNDS = 6
"""Too few to stop early."""

BeforeBlock = Callable[[Job, BlockOptions], None]


class Fake:
    """A worker without a process that makes its times up; the hook may raise."""

    def __init__(self, job: Job, before_block: BeforeBlock) -> None:
        self._job, self._before_block = job, before_block

    def load(self) -> tuple[float, float]:
        return 0.0, 0.0

    def open(self) -> Opened:
        cuda = self._job.device == "cuda"
        device = "cuda:0" if cuda else "cpu"
        return Opened(device, "fake", 1, "float32", 0.0, 0.0, resident=cuda)

    def evaluate(self) -> np.ndarray:
        return np.eye(10, dtype=np.float32)

    def expect(self, logits: np.ndarray) -> None:
        pass

    def warm_up(self, batch_size: int, least_s: float, boundary: Boundary = "host") -> WarmUp:
        return WarmUp(0.002, 4, True, 0.001, 0.001)

    def time(self, batch_size: int, options: BlockOptions) -> tuple[Block, int]:
        self._before_block(self._job, options)
        return Block(samples_s=(0.001 * batch_size,) * 5, **QUIET), 3

    def memory(self) -> None:
        return None

    def close(self) -> None:
        pass


@dataclass
class Notes:
    """A listener that keeps what it is told."""

    texts: list[str] = field(default_factory=list)

    def begin(self, what: str, total: int) -> None: ...
    def advance(self, done: int, what: str = "") -> None: ...
    def end(self) -> None: ...
    def note(self, text: str) -> None:
        self.texts.append(text)


@dataclass
class Comparison:
    """`bench compare` of two networks on the CPU, in this process."""

    run: RunDirectory
    devices: tuple[str, ...] = ("cpu",)
    rows: Sequence[Contender] = ()
    notes: Notes = field(default_factory=Notes)

    def settings(self, changes: dict) -> CompareSection:
        quick = {"batch_sizes": (1, 8), "rounds": ROUNDS, "calls": 5, "processes": 1}
        return CompareSection(**{**quick, "warm_up_s": 0.0, "pause_s": 0.0, **changes})

    def start(
        self,
        before_block: BeforeBlock = lambda job, options: None,
        start_worker: Callable[[Job], object] | None = None,
        fresh: bool = False,
        **changes,
    ) -> Run:
        settings = self.settings(changes)
        checkpoint, path = make_checkpoint(), self.run.path / "network.onnx"
        subject = Subject(self.run.path, checkpoint, ())
        specs = [
            ContenderSpec(backend, variant, device, path, sha("b"))
            for device in self.devices
            for backend, variant in (("torch", "unfolded"), ("ort", "folded"))
        ]
        planned = make_run(name=self.run.name, checkpoint=checkpoint, artifacts=())
        config = {**planned.config, "compare": settings.model_dump(mode="json")}
        changed = {"rounds": settings.rounds, "config": {"evaluate": {}, **config}}
        planned = planned.model_copy(update={**changed, "measurements": ()})
        evaluation = Evaluation("clean", path, LABELS, 10)
        start_worker = start_worker or (lambda job: Fake(job, before_block))

        def measure(rows: Sequence[Sequence[Contender]]) -> list[tuple[Measurement, ...]]:
            (self.rows,) = rows
            return [
                compare_one(subject, self.rows, evaluation, settings, 1, self.notes, start_worker)
            ]

        part = Part(self.run, describe_opening(planned, subject, specs, 1), specs)
        ((measurements, resumed),) = measure_or_resume([part], measure, self.notes, fresh)
        record = planned.model_copy(update={"measurements": measurements, "resumed": resumed})
        store_comparison(self.run, record, self.notes)
        return record

    def interrupt(self, blocks: int, **changes) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.start(raising(KeyboardInterrupt(), after=blocks), **changes)


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    run = create_run(tmp_path / "runs", "bn_cnn", {"config_name": "bn_cnn"})
    return Comparison(run)


def raising(error: BaseException, after: int, backend: str = "", boundary: str = "") -> BeforeBlock:
    """Return a hook that raises before block `after` + 1 (of a backend, within a boundary)."""
    made = 0

    def before_block(job: Job, options: BlockOptions) -> None:
        nonlocal made
        if job.backend.startswith(backend) and options.boundary.startswith(boundary):
            made += 1
            if made > after:
                raise error

    return before_block


def rows_of(record: Run) -> dict[str, Measurement]:
    return {m.contender: m for m in record.measurements}


def count_blocks(measurement: Measurement) -> list[int]:
    return [len(timing.blocks) for timing in measurement.timings]


def test_each_block_is_on_disk_before_the_next_is_timed(comparison: Comparison) -> None:
    found = []

    def before_block(job: Job, options: BlockOptions) -> None:
        samples = read_samples(comparison.run.samples)
        assert samples is not None
        found.append(sum(event.kind == "timed" for event in samples.events))

    comparison.start(before_block)
    assert found == list(range(4 * ROUNDS))
    assert not comparison.run.samples.exists(), "the record holds all of it"


@pytest.mark.parametrize("blocks", [1, 7, 2 * ROUNDS, 2 * ROUNDS + 5])
def test_an_interrupted_comparison_makes_the_rounds_that_are_missing(
    comparison: Comparison, blocks: int
) -> None:
    comparison.interrupt(blocks)
    record = comparison.start()
    assert len(record.resumed) == 1
    assert comparison.run.results() == record
    for row in record.measurements:
        for timing in row.timings:
            assert {block.session for block in timing.blocks} <= {1, 2}
            assert timing.stopped == "rounds"
    pairs = zip(*(row.timings for row in record.measurements), strict=True)
    for ours, theirs in pairs:
        both = {(b.round, b.session) for b in ours.blocks} & {
            (b.round, b.session) for b in theirs.blocks
        }
        assert len(both) == ROUNDS, "as many rounds as wanted, each within one session"
        assert len({number for number, _ in both}) == ROUNDS
    assert sum(sum(count_blocks(row)) for row in record.measurements) <= 4 * ROUNDS + 1


def test_a_comparison_can_be_interrupted_more_than_once(comparison: Comparison) -> None:
    for _ in range(3):
        comparison.interrupt(2)
    record = comparison.start()
    assert len(record.resumed) == 3
    reference = rows_of(record)["torch/unfolded/cpu"].timings[0]
    assert [b.session for b in reference.blocks] == [1, 2, 3, 4, 4, 4]
    assert [b.round for b in reference.blocks] == list(range(1, ROUNDS + 1))


def test_the_budget_counts_what_was_spent_before_the_interruption(
    comparison: Comparison,
) -> None:
    """A block takes 8 calls of a second, of which 5 are timed: 16 s a round at batch 1000."""
    changes = {"batch_sizes": (1000,), "budget_s": 60.0}
    comparison.interrupt(8, **changes)
    row = rows_of(comparison.start(**changes))["torch/unfolded/cpu"]
    assert [b.session for b in row.timings[0].blocks] == [1, 1, 1, 1, 2]
    assert row.timings[0].stopped == "budget"


def test_a_repetition_that_was_interrupted_goes_on_and_the_next_ones_follow(
    comparison: Comparison,
) -> None:
    comparison.interrupt(4 * ROUNDS + 6, repeat=3)
    record = comparison.start(repeat=3)
    for row in record.measurements:
        for timing in row.timings:
            assert [b.repeat for b in timing.blocks] == sorted([1, 2, 3] * ROUNDS)
            assert {b.session for b in timing.blocks if b.repeat == 1} == {1}
            assert {b.session for b in timing.blocks if b.repeat == 3} == {2}


@pytest.mark.parametrize("blocks", [3, 8, 9, 17, 23])
def test_generations_that_were_interrupted_go_on_in_new_processes(
    comparison: Comparison, blocks: int
) -> None:
    comparison.interrupt(blocks, processes=3)
    record = comparison.start(processes=3)
    ours, theirs = (rows_of(record)[name] for name in ("torch/unfolded/cpu", "ort/folded/cpu"))
    for mine, other in zip(ours.timings, theirs.timings, strict=True):
        keys = [{(b.round, b.process, b.session) for b in one.blocks} for one in (mine, other)]
        both = sorted(keys[0] & keys[1])
        assert [process for _, process, _ in both] == [1, 1, 2, 2, 3, 3]
        assert {mine.stopped, other.stopped} == {"rounds"}
        assert len({number for number, _, _ in keys[0] | keys[1]}) == len(keys[0] | keys[1])


def test_each_generation_has_a_process_of_each_contender_that_checks_its_outputs(
    comparison: Comparison,
) -> None:
    made: list[str] = []

    class Told(Fake):
        def evaluate(self) -> np.ndarray:
            made.append(f"evaluate {self._job.backend}")
            return super().evaluate()

        def expect(self, logits: np.ndarray) -> None:
            made.append(f"expect {self._job.backend}")
            assert logits.shape == (10, 10)

    comparison.start(start_worker=lambda job: Told(job, lambda *_: None), processes=3)
    assert made == ["evaluate torch", "evaluate ort"] + 2 * ["expect torch", "expect ort"]


def test_one_that_fails_in_a_later_generation_takes_nothing_from_the_others(
    comparison: Comparison,
) -> None:
    started: list[str] = []

    def start(job: Job) -> Fake:
        started.append(job.backend)
        if started.count("ort") == 2 and job.backend == "ort":
            raise BackendError("no memory")
        return Fake(job, lambda *_: None)

    rows = rows_of(comparison.start(start_worker=start, processes=3))
    assert rows["ort/folded/cpu"].reason == "no memory"
    assert {b.process for b in rows["torch/unfolded/cpu"].timings[0].blocks} == {1, 2, 3}
    assert count_blocks(rows["torch/unfolded/cpu"]) == [ROUNDS, ROUNDS]


def test_a_line_that_a_kill_tore_is_left_out_and_the_rest_counts(comparison: Comparison) -> None:
    comparison.interrupt(6)
    path = comparison.run.samples
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:-40])
    samples = read_samples(path)
    assert samples is not None
    assert samples.size_bytes == len(whole)
    record = comparison.start()
    assert [b.session for b in record.measurements[0].timings[0].blocks] == [1] * 3 + [2] * 3


def test_a_damaged_line_is_named_and_a_comparison_begins_anew(comparison: Comparison) -> None:
    comparison.interrupt(6)
    path = comparison.run.samples
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b"\0" * 20 + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(RunError, match="line 5") as caught:
        read_samples(path)
    assert "\n" not in str(caught.value)
    assert comparison.start().resumed == ()
    assert path.with_name("samples-old.jsonl").read_bytes() == b"".join(lines)


@pytest.mark.parametrize("changes", [{"rounds": 12}, {"batch_sizes": (1,)}, {"fresh": True}])
def test_other_settings_begin_anew_and_keep_what_was_timed(
    comparison: Comparison, changes: dict
) -> None:
    comparison.interrupt(6)
    before = comparison.run.samples.read_bytes()
    record = comparison.start(**changes)
    assert record.resumed == ()
    assert {b.session for t in record.measurements[0].timings for b in t.blocks} == {1}
    assert comparison.run.samples.with_name("samples-old.jsonl").read_bytes() == before
    assert sum("beginning anew" in text for text in comparison.notes.texts) == 1


def test_the_log_gives_back_what_the_contenders_had(comparison: Comparison) -> None:
    comparison.devices = ("cpu", "cuda")
    wrong = raising(BackendError("off by one"), 4, "ort", "device")
    stop = raising(KeyboardInterrupt(), 55)

    def before_block(job: Job, options: BlockOptions) -> None:
        wrong(job, options)
        stop(job, options)

    with pytest.raises(KeyboardInterrupt):
        comparison.start(before_block)
    samples = read_samples(comparison.run.samples)
    assert samples is not None
    found = replay(samples.events)
    assert {name: row.times for name, row in found.items()} == {
        row.name: row.result.times for row in comparison.rows
    }
    hasty = found["ort/folded/cuda"].measurement
    assert (hasty.status, hasty.not_resident) == ("ok", "off by one")
    row = rows_of(comparison.start())["ort/folded/cuda"]
    assert row.not_resident == "off by one"
    assert {t.boundary for t in row.timings} == {"host"}


def test_a_row_that_fails_late_keeps_its_times_and_its_reason(comparison: Comparison) -> None:
    late = raising(BackendError("killed"), 4 * ROUNDS + 3, "ort")
    record = comparison.start(late, repeat=3)
    rows = rows_of(record)
    failed = rows["ort/folded/cpu"]
    assert (failed.status, failed.reason) == ("failed", "killed")
    assert count_blocks(failed) == [2 * ROUNDS + 3, 2 * ROUNDS]
    assert failed.accuracy is not None
    assert count_blocks(rows["torch/unfolded/cpu"]) == [3 * ROUNDS] * 2


def test_a_row_that_failed_stays_failed_when_the_comparison_goes_on(
    comparison: Comparison,
) -> None:
    wrong, stop = raising(BackendError("wrong"), 3, "ort"), raising(KeyboardInterrupt(), 12)

    def before_block(job: Job, options: BlockOptions) -> None:
        wrong(job, options)
        stop(job, options)

    with pytest.raises(KeyboardInterrupt):
        comparison.start(before_block)
    record = comparison.start()
    failed = rows_of(record)["ort/folded/cpu"]
    assert (failed.status, failed.reason) == ("failed", "wrong")
    assert count_blocks(failed) == [3]
    assert rows_of(record)["torch/unfolded/cpu"].status == "ok"


def test_what_is_there_is_reported_and_takes_no_finished_comparisons_place(
    comparison: Comparison,
) -> None:
    report = ["report", comparison.run.name, "--runs", str(comparison.run.path.parent)]
    comparison.interrupt(6)
    samples = read_samples(comparison.run.samples)
    assert samples is not None
    record = unfinished_record(samples)
    assert record.interrupted
    for row in record.measurements:
        assert (row.status, row.accuracy is None) == ("ok", False)
        assert [(t.stopped, len(t.blocks)) for t in row.timings] == [("interrupted", 3)]
    shown = CliRunner().invoke(cli, report)
    assert shown.exit_code == 0, shown.output
    assert "round 3 of 6" in " ".join(shown.stdout.split())

    finished = comparison.start()
    kept = (comparison.run.path / "results.json").read_bytes()
    comparison.interrupt(6)
    assert (comparison.run.path / "results.json").read_bytes() == kept
    shown = CliRunner().invoke(cli, report)
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.count("\n") == 1
    assert comparison.run.results() == finished


def test_a_row_that_never_ran_is_there_with_the_reason(comparison: Comparison) -> None:
    class Slow(Fake):
        def evaluate(self) -> np.ndarray:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        comparison.start(start_worker=lambda job: Slow(job, lambda *_: None))
    samples = read_samples(comparison.run.samples)
    assert samples is not None
    rows = unfinished_record(samples).measurements
    assert [(row.status, row.timings) for row in rows] == [("skipped", ())] * 2
    assert all(row.reason for row in rows)


def test_a_comparison_in_which_nothing_ran_keeps_the_results_before(
    comparison: Comparison,
) -> None:
    def refuse(job: Job) -> Fake:
        raise BackendError("no")

    first = comparison.start(start_worker=refuse)
    assert comparison.run.results() == first, "better than nothing"
    good = comparison.start()
    assert {row.status for row in comparison.start(start_worker=refuse).measurements} == {"failed"}
    assert comparison.run.results() == good


@pytest.mark.parametrize("refused", ["start", "pipe"])
def test_a_process_that_cannot_be_started_is_its_rows_reason(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    if refused == "start":
        monkeypatch.setattr("foldbench.bench.workers.starting._popen", refuse)
    else:
        monkeypatch.setattr("foldbench.bench.workers.starting.Pipe", refuse)
    record = comparison.start(
        start_worker=lambda job: (
            WorkerClient(job) if job.backend == "ort" else Fake(job, lambda *_: None)
        )
    )
    rows = rows_of(record)
    assert rows["ort/folded/cpu"].status == "failed"
    assert "Resource temporarily unavailable" in str(rows["ort/folded/cpu"].reason)
    assert count_blocks(rows["torch/unfolded/cpu"]) == [ROUNDS, ROUNDS]


def test_a_scenario_that_was_driven_is_not_driven_again(comparison: Comparison) -> None:
    made: list[str] = []

    class Driven(Fake):
        def run_scenario(self, options: object) -> object:
            made.append(self._job.backend)
            if len(made) == 2:
                raise KeyboardInterrupt
            return make_scenario("offline")

    def start_worker(job: Job) -> Fake:
        return Driven(job, lambda *_: None)

    loadgen = {"scenarios": ("offline",)}
    with pytest.raises(KeyboardInterrupt):
        comparison.start(start_worker=start_worker, loadgen=loadgen)
    record = comparison.start(start_worker=start_worker, loadgen=loadgen)
    assert made == ["torch", "ort", "ort"]
    assert [len(row.scenarios) for row in record.measurements] == [1, 1]


def test_a_run_that_was_deleted_meanwhile_is_an_error_and_stays_deleted(
    comparison: Comparison,
) -> None:
    import shutil

    made = 0

    def before_block(job: Job, options: BlockOptions) -> None:
        nonlocal made
        made += 1
        if made == 5:
            shutil.rmtree(comparison.run.path)

    with pytest.raises(RunError, match="was deleted meanwhile"):
        comparison.start(before_block)
    assert not comparison.run.path.exists()
    assert any("torch/unfolded/cpu" in text for text in comparison.notes.texts), "shown at least"

"""From the timing loop to the printed table with a clock whose every move is known."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from foldbench.bench.backends import fake
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.machine.interference import Interference
from foldbench.bench.measure.comparison import Evaluation, compare
from foldbench.bench.measure.contenders import Contender, Subject
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Boundary, Run
from foldbench.bench.timing.loop import BlockOptions, WarmUp
from foldbench.bench.workers.protocol import Job, Opened, TimedBlock
from foldbench.bench.workers.server import WorkerServer
from foldbench.reports.render import render

GOLDEN = Path(__file__).parent / "golden" / "fake_backend.txt"
QUIET = Interference(run_delay_ratio=0.0, cpu_ratio=1.0, pressure_ratio=0.0, steal_ratio=0.0)
"""In place of what really ran beside the test."""
STEP_S = {"unfolded": 0.004, "folded": 0.001}


def on_gpu(step_s: Callable[[int], float], clock: fake.FakeClock) -> fake.FakeGpuSession:
    return fake.FakeGpuSession(step_s, clock, transfer_s=0.003)


SESSIONS = {"cpu": fake.FakeSession, "cuda": on_gpu}


class Local:
    """A worker without a process: the fake backend and its clock, one for each contender."""

    def __init__(self, job: Job) -> None:
        clock = fake.FakeClock()
        self._stack = ExitStack()
        self._server = WorkerServer(job, self._stack, clock)
        self._session = SESSIONS[job.device](
            lambda size: STEP_S[job.variant] * (0.5 + 0.5 * size), clock
        )

    def open(self) -> Opened:
        fake_open, fake.open_session = fake.open_session, lambda *_, **__: self._session
        try:
            return self._server.open()
        finally:
            fake.open_session = fake_open

    def evaluate(self) -> np.ndarray:
        return self._server.evaluate()

    def expect(self, logits: np.ndarray) -> None:
        self._server.expect(logits)

    def warm_up(self, batch_size: int, least_s: float, boundary: Boundary = "host") -> WarmUp:
        return self._server.warm_up(batch_size, least_s, boundary)

    def memory(self) -> int:
        return 100 * 2**20

    def time(self, batch_size: int, options: BlockOptions) -> TimedBlock:
        timed = self._server.time(batch_size, options)
        return replace(timed, interference=QUIET, clocks=None)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def record(build: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """What ran on a CPU; the GPU is missing."""
    path = tmp_path / "network.onnx"
    contenders = [
        Contender("fake", "unfolded", "cpu", path, build.sha("b"), 245_000),
        Contender("fake", "folded", "cpu", path, build.sha("e"), 244_000),
        Contender("fake", "folded", "cuda", reason="there is no fake CUDA", status="failed"),
    ]
    return compare_all(contenders, build, tmp_path, monkeypatch)


def compare_all(
    contenders: list[Contender],
    build: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """100 images, the first pixel of image k is grey value k; the fake network names it mod 10."""
    monkeypatch.setattr("foldbench.bench.measure.comparison.REFERENCE", "fake/unfolded/cpu")
    images = np.zeros((100, 3, 4, 4), np.uint8)
    images[:, :, 0, 0] = np.arange(100)[:, None]
    np.save(tmp_path / "images.npy", images)
    preprocessing = SimpleNamespace(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    checkpoint = build.checkpoint()
    checkpoint = checkpoint.model_copy(
        update={"preprocessing": checkpoint.preprocessing.model_copy(update=vars(preprocessing))}
    )
    labels = np.arange(100) % 10
    labels[:5] = 9
    settings = CompareSection(
        batch_sizes=(1, 8), rounds=10, calls=25, block_s=0, settle_s=0, warm_up_s=0
    )
    measurements = compare(
        Subject(tmp_path, checkpoint, ()),
        contenders,
        Evaluation("clean", tmp_path / "images.npy", labels.astype(np.int64), 32),
        settings,
        1,
        NullListener(),
        start_worker=Local,
    )
    return build.run(
        checkpoint=checkpoint,
        artifacts=(),
        evaluation_protocol="clean",
        reference="fake/unfolded/cpu",
        measurements=measurements,
    )


def test_the_fake_backends_known_times_and_answers_reach_the_record(record: Run) -> None:
    unfolded, folded, lost = record.measurements
    for row, step_s in ((unfolded, 0.004), (folded, 0.001)):
        assert row.accuracy is not None
        assert (row.accuracy.correct, row.accuracy.total) == (95, 100)
        assert row.accuracy.top1 == tuple(k % 10 for k in range(100))
        one, eight = row.timings
        assert one.samples_s() == pytest.approx([step_s] * 250)
        assert eight.samples_s() == pytest.approx([step_s * 4.5] * 250)
        assert one.first_call_s == pytest.approx(step_s)
        assert one.stopped == "rounds"
        assert one.warmup_calls == 2 + 10 * 3
    assert (lost.status, lost.reason, lost.timings) == ("failed", "there is no fake CUDA", ())


def test_the_report_of_the_fake_backend_is_the_golden_one(record: Run) -> None:
    import os

    text = render(record, "terminal")
    if os.environ.get("FOLDBENCH_WRITE_GOLDEN"):
        GOLDEN.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == GOLDEN.read_text(encoding="utf-8")


def test_a_made_up_gpu_is_recorded_and_reported_within_both_boundaries(
    build: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "network.onnx"
    contenders = [
        Contender("fake", "unfolded", "cpu", path, build.sha("b"), 245_000),
        Contender("fake", "folded", "cuda", path, build.sha("e"), 244_000),
    ]
    run = compare_all(contenders, build, tmp_path, monkeypatch)
    cpu, gpu = run.measurements
    assert [(t.batch_size, t.boundary) for t in cpu.timings] == [(1, "host"), (8, "host")]
    expected = {(1, "host"): 7, (1, "device"): 1, (8, "host"): 10.5, (8, "device"): 4.5}
    for timing in gpu.timings:
        wanted_ms = expected.pop((timing.batch_size, timing.boundary))
        assert timing.samples_s() == pytest.approx([wanted_ms / 1e3] * 250)
    assert expected == {}
    assert (gpu.actual_device, gpu.not_resident) == ("cuda:0", None)
    assert "thread_pools" in gpu.libraries
    assert Run.model_validate_json(run.model_dump_json()) == run
    host, device = render(run, "terminal").split("GPU compute latency (device-resident)")
    assert "7.00" in host
    assert "fake/folded/cuda      1       1.00" in device


def test_records_from_before_there_were_boundaries_are_read_as_they_were_meant(
    record: Run,
) -> None:
    old = json.loads(record.model_dump_json())
    for row in old["measurements"]:
        del row["libraries"], row["not_resident"]
        for timing in row["timings"]:
            del timing["boundary"]
            for block in timing["blocks"]:
                del block["clocks"]
    read = Run.model_validate_json(json.dumps(old))
    assert {t.boundary for m in read.measurements for t in m.timings} == {"host"}
    assert render(read, "terminal") == render(record, "terminal")

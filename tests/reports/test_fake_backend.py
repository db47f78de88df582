"""From the timing loop to the printed table with a clock whose every move is known."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fake_backend
from builders import QuietWorker, compare_one
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.contenders import ContenderSpec, Subject
from foldbench.bench.measure.evaluation import Evaluation
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Run
from foldbench.bench.timing.simulation import FakeClock, FakeGpuSession, FakeSession
from foldbench.bench.workers.protocol import Job, Opened
from foldbench.reports.render import render

pytestmark = pytest.mark.usefixtures("with_fake_backend")

STEP_S = {"unfolded": 0.004, "folded": 0.001}


def on_gpu(step_s: Callable[[int], float], clock: FakeClock) -> FakeGpuSession:
    return FakeGpuSession(step_s, clock, transfer_s=0.003)


SESSIONS = {"cpu": FakeSession, "cuda": on_gpu}


class Local(QuietWorker):
    """A worker without a process: the fake network and its clock, one for each contender."""

    def __init__(self, job: Job) -> None:
        clock = FakeClock()
        step_s = STEP_S[job.variant]
        self._fake = SESSIONS[job.device](lambda size: step_s * (0.5 + 0.5 * size), clock)
        super().__init__(job, clock)

    def open(self) -> Opened:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fake_backend, "open_session", lambda *_, **__: self._fake)
            return super().open()

    def memory(self) -> int:
        return 100 * 2**20


@pytest.fixture
def record(build: SimpleNamespace, tmp_path: Path) -> Run:
    """What ran on a CPU; the GPU is missing."""
    path = tmp_path / "network.onnx"
    specs = [
        ContenderSpec("fake", "unfolded", "cpu", path, build.sha("b"), 245_000),
        ContenderSpec("fake", "folded", "cpu", path, build.sha("e"), 244_000),
        ContenderSpec("fake", "folded", "cuda", reason="there is no fake CUDA", status="failed"),
    ]
    return compare_all(specs, build, tmp_path)


class FakeSubject(Subject):
    original = "fake/unfolded"


def compare_all(
    specs: list[ContenderSpec],
    build: SimpleNamespace,
    tmp_path: Path,
) -> Run:
    """100 images, the first pixel of image k is grey value k; the fake network names it mod 10."""
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
        batch_sizes=(1, 8),
        rounds=10,
        calls=25,
        block_s=0,
        settle_s=0,
        warm_up_s=0,
        processes=1,
    )
    measurements = compare_one(
        FakeSubject(tmp_path, checkpoint, ()),
        [Contender(spec) for spec in specs],
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


def test_a_made_up_gpu_is_recorded_and_reported_within_both_boundaries(
    build: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "network.onnx"
    specs = [
        ContenderSpec("fake", "unfolded", "cpu", path, build.sha("b"), 245_000),
        ContenderSpec("fake", "folded", "cuda", path, build.sha("e"), 244_000),
    ]
    run = compare_all(specs, build, tmp_path)
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

"""Comparing: which rows there are, how a failing one ends, and what one run records."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

import isolated_calls
from builders import QUICK, QuietWorker, run_in_process
from foldbench.bench.errors import BackendError, DataError, RunError
from foldbench.bench.measure.contenders import Subject, list_contenders
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Measurement
from foldbench.bench.stages.compare import compare_run
from foldbench.bench.stages.export import export
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.store.files import file_sha256
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job


def subject(run: RunDirectory) -> Subject:
    return Subject(run.path, run.checkpoint(), run.artifacts())


def by_name(measurements: tuple[Measurement, ...]) -> dict[str, Measurement]:
    return {m.contender: m for m in measurements}


@pytest.fixture
def job(own_run: RunDirectory, tmp_path: Path) -> Job:
    images = np.random.default_rng(0).integers(0, 255, (6, 3, 32, 32)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    return Job(
        backend="torch",
        device="cpu",
        threads=1,
        variant="unfolded",
        folder=own_run.path,
        path=own_run.path / "weights.safetensors",
        images=tmp_path / "images.npy",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        classes=10,
        batch_size=4,
    )


def test_there_is_a_row_for_every_artifact_backend_and_device(
    twice_exported_run: RunDirectory,
) -> None:
    rows = list_contenders(subject(twice_exported_run), ("torch", "ort"), ("cpu", "cuda"))
    assert [row.name for row in rows] == [
        f"{backend}/{variant}/{device}"
        for device in ("cpu", "cuda")
        for backend in ("torch", "ort")
        for variant in ("unfolded", "folded")
    ]


def test_without_an_export_the_row_says_what_to_do(own_run: RunDirectory) -> None:
    (row,) = list_contenders(subject(own_run), ("ort",), ("cpu",))
    assert row.status == "skipped"
    assert str(row.reason).endswith(f": bench export {own_run.name}")


def test_a_network_that_cannot_be_exported_is_a_row_with_its_reason(
    own_run: RunDirectory,
) -> None:
    without = replace(subject(own_run), not_exported="could not be exported: no such operator")
    rows = list_contenders(without, ("torch", "ort"), ("cpu",))
    assert [row.status for row in rows] == ["ok", "ok", "failed"]
    assert rows[-1].reason == "could not be exported: no such operator"


def test_a_file_that_names_other_weights_is_not_run_whatever_the_record_says(
    own_exported_run: RunDirectory,
) -> None:
    (artifact,) = own_exported_run.artifacts()
    path = own_exported_run.path / artifact.path
    weights = artifact.checkpoint_sha256.encode()
    path.write_bytes(path.read_bytes().replace(weights, b"0" * len(weights)))
    forged = artifact.model_copy(update={"sha256": file_sha256(path)})
    own_exported_run.write_artifact(forged)
    (row,) = list_contenders(subject(own_exported_run), ("ort",), ("cpu",))
    assert row.status == "failed"
    assert "other weights" in str(row.reason)
    assert "bench export" in str(row.reason)


def test_an_artifact_that_was_changed_or_failed_parity_is_not_run(
    own_exported_run: RunDirectory,
) -> None:
    (artifact,) = own_exported_run.artifacts()
    failed = artifact.parity.model_copy(update={"passed": False, "reason": "off by 1"})
    for change, reason in (
        ({"sha256": "0" * 64}, "is not the file that was exported"),
        ({"path": "artifacts/gone.onnx"}, "is missing"),
        ({"checkpoint_sha256": "0" * 64}, "exported from other weights"),
        ({"parity": failed}, "does not compute what the checkpoint does: off by 1"),
    ):
        own_exported_run.write_artifact(artifact.model_copy(update=change))
        (row,) = list_contenders(subject(own_exported_run), ("ort",), ("cpu",))
        assert row.status == "failed"
        assert reason in str(row.reason)


def test_one_run_of_everything_records_what_a_report_needs(
    own_twice_exported_run: RunDirectory, paths: Paths
) -> None:
    run = own_twice_exported_run
    record = compare_run(run, QUICK, paths, NullListener(), ("bench",))
    rows = by_name(record.measurements)
    assert set(rows) == {f"{b}/{v}/cpu" for b in ("torch", "ort") for v in ("unfolded", "folded")}
    for row in rows.values():
        assert (row.status, row.reason, row.actual_device) == ("ok", None, "cpu")
        assert row.threads == rows["torch/unfolded/cpu"].threads
        assert row.accuracy is not None
        assert row.accuracy.total == len(row.accuracy.top1) == 359
        assert row.accuracy.agreement is not None
        assert row.accuracy.agreement.top1_equal == 359
        assert row.accuracy.agreement.max_rel_difference < 1e-4
        assert [t.batch_size for t in row.timings] == [1, 3]
        for timing in row.timings:
            assert len(timing.blocks) == timing.checked_outputs >= 1
            assert all(s > 0 for s in timing.samples_s())
            assert len(timing.samples_s()) >= 3
    reference = rows["torch/unfolded/cpu"].accuracy
    assert reference is not None
    assert reference.agreement is not None
    assert reference.agreement.max_abs_difference == 0
    assert run.results() == record
    assert "torch/unfolded/cpu" in (run.path / "report.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("in_process")
def test_the_report_that_a_comparison_writes_shows_the_pictures_of_the_run(
    own_run: RunDirectory, paths: Paths
) -> None:
    (own_run.path / "filters.png").write_bytes(b"\x89PNG")
    settings = ["compare.backends=[torch]", "compare.devices=[cpu]", "compare.batch_sizes=[1]"]
    compare_run(own_run, [*QUICK, *settings], paths, NullListener())
    page = (own_run.path / "report.html").read_text(encoding="utf-8")
    assert f"First-layer filters of {own_run.name}" in page


def test_the_record_is_written_while_the_run_is_locked(
    own_run: RunDirectory, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def try_to_lock(run: RunDirectory, *_: object) -> None:
        with pytest.raises(RunError, match="in use"), RunDirectory(run.path).locked():
            pass
        refused.append(run.name)

    monkeypatch.setattr(
        "foldbench.bench.stages.compare.measure_or_resume",
        lambda parts, *_: [((), ())] * len(parts),
    )
    monkeypatch.setattr("foldbench.bench.stages.compare.store_comparison", try_to_lock)
    compare_run(own_run, [*QUICK, "compare.backends=[torch]"], paths, NullListener())
    assert refused == [own_run.name]
    with own_run.locked():
        pass


@pytest.mark.usefixtures("in_process")
def test_agreement_is_measured_even_when_the_reference_is_not_compared(
    own_exported_run: RunDirectory, paths: Paths
) -> None:
    settings = [*QUICK, "compare.backends=[ort]"]
    (row,) = compare_run(own_exported_run, settings, paths, NullListener()).measurements
    assert row.accuracy is not None
    assert row.accuracy.agreement is not None


@pytest.mark.usefixtures("in_process")
def test_the_evaluation_protocols_show_different_images_and_each_repeats(
    own_run: RunDirectory, paths: Paths
) -> None:
    hashes = [
        compare_run(
            own_run,
            [*QUICK, "compare.backends=[torch]", f"evaluate.protocol={protocol}"],
            paths,
            NullListener(),
        ).evaluation_sha256
        for protocol in ("clean", "homework", "homework")
    ]
    assert hashes[0] != hashes[1] == hashes[2]


@pytest.mark.usefixtures("in_process")
def test_a_device_that_is_missing_is_a_row_with_its_reason(
    own_exported_run: RunDirectory, paths: Paths
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    settings = [*QUICK, "compare.devices=[cpu, cuda]"]
    record = compare_run(own_exported_run, settings, paths, NullListener())
    rows = by_name(record.measurements)
    for name in ("torch/unfolded/cuda", "ort/folded/cuda"):
        assert rows[name].status == "failed"
        assert "asked for cuda" in str(rows[name].reason)
        assert (rows[name].accuracy, rows[name].timings) == (None, ())
    assert rows["ort/folded/cpu"].status == "ok"


def test_images_of_other_classes_are_refused(own_run: RunDirectory, paths: Paths) -> None:
    from PIL import Image

    folder = paths.cache.parent / "others"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(folder / split / name / "1.png")
    with pytest.raises(DataError, match=r"\bcat, dog\b"):
        export(own_run, ["data.name=imagefolder", f"data.path={folder}"], paths, NullListener())


def test_a_worker_that_is_killed_becomes_its_rows_reason(job: Job) -> None:
    worker = WorkerClient(job)
    try:
        worker.open()
        assert worker.process_id is not None
        os.kill(worker.process_id, signal.SIGKILL)
        with pytest.raises(BackendError, match="SIGKILL: out of memory"):
            worker.evaluate()
    finally:
        worker.close()


def test_a_worker_checks_the_outputs_that_it_times(job: Job) -> None:
    worker = WorkerClient(job)
    options = BlockOptions(calls=2, block_s=0, settle_s=0)
    try:
        with pytest.raises(BackendError, match="not open"):
            worker.evaluate()
        worker.open()
        with pytest.raises(BackendError, match="before its accuracy"):
            worker.time(2, options)
        logits = worker.evaluate()
        assert logits.shape == (6, 10)
        assert worker.warm_up(4, 0.0).first_call_s > 0
        block, settle_calls = worker.time(4, options)
        assert len(block.samples_s) >= 2
        assert settle_calls >= 3
        with pytest.raises(BackendError, match="batch size 4 differs"):
            worker.expect(logits + 1)
        with pytest.raises(BackendError, match="batch size 4 differs"):
            worker.time(4, options)
        memory = worker.memory()
        assert memory is None or memory > 50 * 2**20
    finally:
        worker.close()


@pytest.mark.skipif(sys.platform != "linux", reason="stops processes with Linux's signals")
def test_a_worker_is_stopped_until_it_is_asked_for_something(job: Job) -> None:
    worker = WorkerClient(job)
    try:
        worker.open()
        assert worker.process_id is not None
        isolated_calls.wait_for_status(worker.process_id, psutil.STATUS_STOPPED)
        assert worker.evaluate().shape == (6, 10)
        isolated_calls.wait_for_status(worker.process_id, psutil.STATUS_STOPPED)
    finally:
        worker.close()
    assert not psutil.pid_exists(worker.process_id)


def test_whatever_a_worker_raises_comes_back_as_one_line(job: Job) -> None:
    (job.folder / "weights.safetensors").write_bytes(b"damaged")
    worker = WorkerClient(job)
    try:
        with pytest.raises(BackendError, match=r"weights\.safetensors") as caught:
            worker.open()
        assert "\n" not in str(caught.value)
    finally:
        worker.close()


@pytest.mark.usefixtures("all_cores")
def test_a_repetition_has_new_workers_and_blocks_of_its_own(
    own_run: RunDirectory, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    class Counted(QuietWorker):
        def __init__(self, job: Job) -> None:
            super().__init__(job)
            started.append(job.threads)

    run_in_process(monkeypatch, Counted)
    record = compare_run(
        own_run,
        [
            *QUICK,
            "compare.backends=[torch]",
            "compare.batch_sizes=[2]",
            "compare.repeat=2",
            "compare.pause_s=0",
            "compare.self_checks=true",
        ],
        paths,
        NullListener(),
    )
    rows = by_name(record.measurements)
    assert {row.role for row in rows.values()} == {"contender", "again", "one_thread"}
    assert started == 2 * [row.threads for row in record.measurements]
    for row in rows.values():
        assert row.status == "ok", row.reason
        (timing,) = row.timings
        first, second = ({b.round for b in timing.blocks if b.repeat == n} for n in (1, 2))
        assert first
        assert second
        assert max(first) < min(second)
    assert rows["torch/unfolded/cpu 1 thread"].threads == 1
    assert rows["torch/unfolded/cpu again"].accuracy is None

"""A file that takes one batch size is measured at that one, and says so at the others."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import classifier

from builders import (
    make_artifact,
    make_checkpoint,
    make_job,
    make_row,
    make_run,
    make_timing,
    steady,
)
from foldbench.bench.measure.contenders import ContenderSpec, Subject, contenders_of
from foldbench.bench.measure.running import Contender
from foldbench.bench.measure.series import MeasurementSeries
from foldbench.bench.store.files import file_sha256
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.workers.server import WorkerServer
from foldbench.reports.rows.latency import latency_rows

BLOCK = BlockOptions(calls=2, block_s=0, settle_s=0)


@pytest.fixture
def server(tmp_path: Path) -> WorkerServer:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    onnx.save(classifier(batch=2, head="reshape"), tmp_path / "network.onnx")
    job = make_job(tmp_path / "images.npy", classes=5, fixed_batch=2)
    return WorkerServer(job)


def test_all_images_are_evaluated_in_batches_of_that_size(server: WorkerServer) -> None:
    server.open()
    logits = server.evaluate()
    assert logits.shape == (5, 5)
    assert len(np.unique(logits, axis=0)) == 5
    assert server.batch_size() == 2
    server.expect(logits)
    swapped = server.evaluate_as(np.arange(3), (0.0,) * 3, (1 / 255,) * 3, swapped=False)
    np.testing.assert_allclose(swapped, logits[:3], rtol=1e-5)
    block, _ = server.time(2, BLOCK)
    assert len(block.samples_s) >= 2
    server.close()


def test_a_contender_takes_part_at_its_own_batch_size_alone() -> None:
    spec = ContenderSpec("ort", "given", "cpu", fixed_batch=2)
    assert spec.refuse_batches(2) is None
    refused = spec.refuse_batches(1, 2, 64)
    assert refused is not None
    assert re.findall(r"\d+", refused) == ["2", "1", "64"]
    contender = Contender(spec)
    taken = [n for n in (1, 2, 64) if contender.takes_part(MeasurementSeries(n, "host"), 1)]
    assert taken == [2]
    assert ContenderSpec("ort", "folded", "cpu").refuse_batches(1, 64) is None


def test_the_size_comes_from_the_record_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "given.onnx").write_bytes(b"network")
    sha256 = file_sha256(tmp_path / "given.onnx")
    artifact = make_artifact("given", sha256=sha256, fixed_batch=4)
    subject = Subject(tmp_path, make_checkpoint(), (artifact,))
    (row,) = contenders_of(subject, "ort", "cpu")
    assert (row.status, row.fixed_batch) == ("ok", 4)


def test_a_row_says_which_batch_sizes_are_missing_and_why() -> None:
    reason = "its file runs at batch size 2 alone, not at 1"
    timings = (make_timing(2, steady(0.001)),)
    row = make_row("ort", "folded", timings=timings, reason=reason)
    rows = [
        one for one in latency_rows(make_run(measurements=(row,))) if one.contender == row.contender
    ]
    assert [(one.batch_size, one.status) for one in rows] == [(2, "ok"), (None, "skipped")]
    assert rows[1].reason == reason

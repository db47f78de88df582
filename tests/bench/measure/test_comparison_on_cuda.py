"""The whole way on a GPU: train, export and compare there, beside the CPU."""

from collections.abc import Sequence

import pytest
import torch

from builders import QUICK
from foldbench.bench.config.files import load
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Measurement
from foldbench.bench.stages.compare import compare_run
from foldbench.bench.stages.export import export
from foldbench.bench.stages.profiling import profile_run
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, RunDirectory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
DEVICES = ("cuda", "cpu")
BOTH = (*QUICK, "train.device=cuda", "compare.devices=[cuda, cpu]")


def exported(paths: Paths) -> RunDirectory:
    """Return a run that was trained on the GPU and exported."""
    run = train(load("digits", BOTH), paths, NullListener())
    export(run, BOTH, paths, NullListener())
    return run


def ran(rows: Sequence[Measurement]) -> dict[str, Measurement]:
    assert {row.contender: row.reason for row in rows if row.status != "ok"} == {}
    return {row.contender: row for row in rows}


def test_a_network_trained_on_the_gpu_is_compared_there_and_on_the_cpu(paths: Paths) -> None:
    run = exported(paths)
    record = compare_run(run, BOTH, paths, NullListener())
    rows = ran(record.measurements)
    assert set(rows) == {
        *(f"torch/{variant}/{device}" for variant in ("unfolded", "folded") for device in DEVICES),
        *(f"ort/folded/{device}" for device in DEVICES),
    }
    for row in rows.values():
        on_gpu = row.requested_device == "cuda"
        assert row.actual_device == ("cuda:0" if on_gpu else "cpu")
        assert row.accuracy is not None
        assert row.accuracy.agreement is not None
        assert row.accuracy.agreement.max_rel_difference < 1e-3
        boundaries = {timing.boundary for timing in row.timings}
        assert boundaries == ({"host", "device"} if on_gpu else {"host"})
    report = (run.path / "report.md").read_text(encoding="utf-8")
    assert torch.cuda.get_device_name() in report


def test_the_operators_of_the_gpu_are_profiled(paths: Paths) -> None:
    profile = profile_run(exported(paths), BOTH, paths, NullListener())
    on_gpu = [one for one in profile.profiles if one.device == "cuda"]
    assert {one.backend for one in on_gpu} == {"torch", "ort"}
    assert {one.contender: one.reason for one in on_gpu if one.status != "ok"} == {}
    assert all(one.operators for one in on_gpu)

"""Where the time goes: what the runtimes' profilers say, read back and shown."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from builders import make_job
from foldbench.bench.backends._ort.operator_times import read_profile
from foldbench.bench.cli import cli
from foldbench.bench.errors import BackendError
from foldbench.bench.records import ContenderProfile, OperatorTime, Profile
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.workers.server import WorkerServer
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.sections.operators import build_profile, count_copies, placements, summed

SMALL = ("--set=compare.batch_sizes=[2]", "--set=evaluate.batch_size=64", "--devices=cpu")


def event(name: str, microseconds: float, kind: str = "Conv") -> dict:
    arguments = {"op_name": kind, "provider": "CPUExecutionProvider"}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": arguments}


def written(tmp_path: Path, events: list[dict]) -> Path:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events), encoding="utf-8")
    return path


def test_the_runs_before_are_left_out_and_the_others_averaged(tmp_path: Path) -> None:
    events = [event("a", 900), event("b", 900, "Gemm"), event("a", 10), event("b", 1, "Gemm")]
    events += [event("a", 30), event("b", 3, "Gemm"), {"cat": "Session", "name": "model_run"}]
    found = {one.node: one for one in read_profile(written(tmp_path, events), skip=1)}
    assert found["a"].time_s == pytest.approx(20e-6)
    assert found["b"].time_s == pytest.approx(2e-6)
    assert (found["a"].operator, found["a"].placed_on, found["a"].calls) == ("Conv", "CPU", 1)


def test_a_profile_without_kernels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="recorded no kernel"):
        read_profile(written(tmp_path, [{"cat": "Session", "name": "run"}]), skip=0)


def operator(kind: str, node: str | None, time_s: float) -> OperatorTime:
    return OperatorTime(operator=kind, node=node, placed_on="CPU", time_s=time_s, calls=1)


def profiled(*operators: OperatorTime, **changes) -> ContenderProfile:
    fields = {"contender": "ort/folded/cpu", "backend": "ort", "variant": "folded"}
    fields |= {"device": "cpu", "batch_size": 1, "status": "ok", "operators": operators}
    return ContenderProfile(**{**fields, **changes})


def test_operators_of_one_type_are_summed_and_the_longest_comes_first() -> None:
    one = profiled(
        operator("Conv", "a", 1e-3), operator("Mul", "b", 3e-3), operator("Conv", "c", 4e-3)
    )
    assert summed(one, lambda o: o.operator) == [
        ("Conv", pytest.approx(5e-3), 2),
        ("Mul", pytest.approx(3e-3), 1),
    ]


def test_the_report_shows_shares_the_rest_and_why_a_row_is_missing() -> None:
    rows = (
        profiled(operator("Conv", "a", 3e-3), operator("Mul", "b", 1e-3)),
        profiled(status="failed", contender="fake/folded/cpu", reason="has no profiler"),
    )
    found = Profile(name="digits-001", created="now", threads=2, profiles=rows)
    text = render_terminal(build_profile(found, top=1, nodes=True))
    assert "75.0 % 3.00 Conv a" in text
    assert "25.0 % 1 more" in text
    assert "fake/folded/cpu" in text
    assert "has no profiler" in text


def test_on_a_gpu_the_share_of_every_provider_and_the_copies_are_shown() -> None:
    on = {"Conv": "CUDA", "MemcpyToHost": "CUDA", "Shape": "CPU"}
    times = {"Conv": 97e-5, "MemcpyToHost": 1e-5, "Shape": 2e-5}
    operators = [
        OperatorTime(operator=kind, node=f"node {kind}", placed_on=on[kind], time_s=t, calls=2)
        for kind, t in times.items()
    ]
    row = profiled(*operators, contender="ort/folded/cuda", device="cuda")
    assert [(p.placed_on, p.share, p.nodes) for p in placements(row)] == [
        ("CUDA", pytest.approx(0.98), 2),
        ("CPU", pytest.approx(0.02), 1),
    ]
    assert count_copies(row) == 2
    found = Profile(name="digits-001", created="now", threads=2, profiles=(row,))
    text = " ".join(render_terminal(build_profile(found, top=5, nodes=False)).split())
    assert "CUDA 98.00 % (2 nodes), CPU 2.00 % (1 node) 2" in text


def test_on_a_cpu_alone_nothing_is_said_of_placement() -> None:
    row = profiled(operator("Conv", "a", 1e-3))
    found = Profile(name="digits-001", created="now", threads=2, profiles=(row,))
    assert "Placement" not in render_terminal(build_profile(found, top=5, nodes=False))


def profile(run: RunDirectory, cache: Path, backend: str) -> dict[str, set[str]]:
    """Run the command; return the operators of each contender."""
    command = ["profile", run.name, "--runs", str(run.path.parent), "--cache", str(cache)]
    result = CliRunner().invoke(cli, [*command, f"--backends={backend}", *SMALL])
    assert result.exit_code == 0, result.output
    stored = json.loads((run.path / "profile.json").read_text(encoding="utf-8"))
    assert all(row["contender"] in result.output for row in stored["profiles"])
    return {
        row["contender"]: {o["operator"] for o in row["operators"]} for row in stored["profiles"]
    }


def test_a_run_is_profiled_in_torch_unfolded_and_folded(
    own_run: RunDirectory, trained_paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldbench.bench.measure.profiling.WorkerClient", WorkerServer)
    kinds = profile(own_run, trained_paths.cache, "torch")
    assert set(kinds) == {"torch/unfolded/cpu", "torch/folded/cpu"}
    assert any("conv" in kind for kind in kinds["torch/unfolded/cpu"])
    assert any("batch_norm" in kind for kind in kinds["torch/unfolded/cpu"])
    assert not any("batch_norm" in kind for kind in kinds["torch/folded/cpu"])


def test_a_run_is_profiled_in_onnxruntime_in_a_process_of_its_own(
    own_exported_run: RunDirectory, trained_paths: Paths
) -> None:
    kinds = profile(own_exported_run, trained_paths.cache, "ort")
    assert set(kinds) == {"ort/folded/cpu"}
    assert {"Conv", "Gemm"} & kinds["ort/folded/cpu"]


@pytest.mark.usefixtures("with_fake_backend")
def test_a_backend_without_a_profiler_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 3, 4, 4), np.uint8))
    server = WorkerServer(make_job(tmp_path / "images.npy", backend="fake"))
    with server, pytest.raises(BackendError, match="fake"):
        server.profile(batch_size=2, runs=1)

"""bench explain on a run and on an .onnx file: rows by module, reconciled, with their errors."""

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from graphs import stuck
from onnx import TensorProto

from foldbench.bench.cli import cli
from foldbench.bench.config.own_network import source_config
from foldbench.bench.errors import ConfigError
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.add import add
from foldbench.bench.stages.explain import explain_run
from foldbench.bench.stages.export import export
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.workers.server import WorkerServer

SMALL = ("--batch-size=2", "--set=evaluate.batch_size=64", "--set=compare.threads=1")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foldbench.bench.measure.profiling.WorkerClient", WorkerServer)
    monkeypatch.setattr("foldbench.bench.measure.profiling.PROFILED_RUNS", 2)
    monkeypatch.setattr("foldbench.bench.stages.explain._rates", lambda *_: (1e10, 1e10))


def explain(run: RunDirectory, cache: Path, *more: str) -> dict:
    places = ("--runs", str(run.path.parent), "--cache", str(cache))
    result = CliRunner().invoke(cli, ["explain", run.name, *more, *places, *SMALL])
    assert result.exit_code == 0, result.output
    assert "unattributed" in result.output
    return json.loads((run.path / "explanation.json").read_text(encoding="utf-8"))


def test_a_run_is_explained_by_the_names_of_its_modules(
    own_exported_run: RunDirectory, trained_paths: Paths
) -> None:
    found = explain(own_exported_run, trained_paths.cache)
    torch, ort = found["contenders"]
    assert (torch["contender"], ort["contender"]) == ("torch/unfolded/cpu", "ort/folded/cpu")
    names = {facts["module"] for facts in found["modules"] if facts["flops"]}
    for rows in (torch, ort):
        assert names <= {row["module"] for row in rows["modules"]}
        total = sum(row["time_s"] for row in rows["modules"]) + rows["unattributed_s"]
        assert total == pytest.approx(rows["total_s"])
    assert ort["unattributed_s"] < 0.2 * ort["total_s"]
    errors = [facts["error"] for facts in found["modules"] if facts["error"] is not None]
    assert len(errors) >= len(names)
    assert 0 < max(errors) < 1e-4


def test_a_contender_that_there_is_not_is_refused_with_those_that_there_are(
    own_exported_run: RunDirectory, trained_paths: Paths
) -> None:
    run = own_exported_run
    places = ("--runs", str(run.path.parent), "--cache", str(trained_paths.cache))
    result = CliRunner().invoke(cli, ["explain", run.name, "ort/fold", *places, *SMALL])
    assert result.exit_code == 1
    assert "ort/folded" in result.output


@pytest.mark.parametrize("sizes", ["1,2", "0", "x"])
def test_it_is_of_one_batch_size(sizes: str) -> None:
    result = CliRunner().invoke(cli, ["explain", "net.onnx", f"--batch-size={sizes}"])
    assert result.exit_code == 2
    assert sizes in result.output


def test_a_file_in_float16_with_one_batch_size_is_explained_at_that_one(
    paths: Paths, tmp_path: Path
) -> None:
    onnx.save(stuck(2, TensorProto.FLOAT16), tmp_path / "half.onnx")
    loaded = source_config(str(tmp_path / "half.onnx"), ("model.output=z",))
    run = add(loaded, paths, NullListener())
    export(run, (), paths, NullListener())
    found = explain(run, paths.cache, "ort")
    assert found["batch_size"] == 2
    assert len([facts for facts in found["modules"] if facts["flops"]]) == 2
    with pytest.raises(ConfigError, match="batch size 2 alone, not at 3"):
        explain_run(run, ["ort"], ["compare.batch_sizes=[3]"], paths, NullListener())

"""Run folders that an earlier version wrote still open: one is stored, without its weights."""

import csv
import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foldbench.bench.cli import cli
from foldbench.bench.config.files import load
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Run
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.store.files import file_sha256
from foldbench.models.building.checkpoint import save_weights
from foldbench.models.building.network import build_model
from foldbench.reports.text.names import name_of

STORED = Path(__file__).parents[2] / "stored" / "digits-001"
AS_TRAINED = (
    "model.name=bn_cnn",
    "train.epochs=1",
    "train.device=cpu",
    "train.batch_size=256",
    "train.schedule={name: constant}",
)
CONTENDERS = ("torch/unfolded/cpu", "torch/folded/cpu", "ort/folded/cpu")


@pytest.fixture
def run(paths: Paths) -> RunDirectory:
    """A copy of the stored run."""
    shutil.copytree(STORED, paths.runs / STORED.name)
    return RunDirectory(paths.runs / STORED.name)


def bench(paths: Paths, *arguments: str) -> Result:
    places = ("--runs", str(paths.runs), "--cache", str(paths.cache))
    return CliRunner().invoke(cli, [*arguments, *places], prog_name="bench")


def put_weights_into(run: RunDirectory) -> Path:
    """Write weights, which the stored run lacks, and name them in its record."""
    checkpoint = run.checkpoint()
    weights = run.path / checkpoint.weights
    shape, classes = checkpoint.preprocessing.input_shape, len(checkpoint.classes)
    save_weights(build_model(checkpoint.model, checkpoint.model_args, classes, shape), weights)
    changes = {"sha256": file_sha256(weights), "size_bytes": weights.stat().st_size}
    run.write_checkpoint(checkpoint.model_copy(update=changes))
    return weights


def test_it_is_listed_with_all_that_was_done(run: RunDirectory, paths: Paths) -> None:
    assert (run.config_name, run.is_trained(), run.is_compared()) == ("digits", True, True)
    assert [(a.variant, a.parity.passed) for a in run.artifacts()] == [("folded", True)]
    found = json.loads(bench(paths, "list", "--json").stdout)
    assert list(found["runs"]) == [run.name]
    assert found["runs"][run.name] == "trained, exported, compared"


def test_its_record_holds_what_was_measured(run: RunDirectory) -> None:
    record = run.results()
    rows = [(m.contender, m.status) for m in record.measurements]
    again = ("torch/unfolded/cpu again", "ok")
    assert rows == [*((name, "ok") for name in CONTENDERS), again]
    assert len(record.labels) == 359
    (result,) = run.results_by_protocol()
    assert result == record


@pytest.mark.parametrize("form", ["terminal", "md", "html", "json", "csv"])
def test_it_is_reported_in_every_format(form: str, run: RunDirectory, paths: Paths) -> None:
    result = bench(paths, "report", run.name, "--format", form)
    assert result.exit_code == 0, result.output
    if form == "json":
        (summary,) = json.loads(result.stdout)["runs"]
        assert tuple(row["contender"] for row in summary["latency"]) == CONTENDERS
    elif form == "csv":
        rows = csv.DictReader(StringIO(result.stdout))
        assert tuple(row["contender"] for row in rows) == CONTENDERS
    else:
        shown = map(name_of, CONTENDERS) if form == "terminal" else CONTENDERS
        assert all(name in result.stdout for name in shown)


def test_it_is_comparable_with_what_is_measured_now_and_keeps_its_number(
    run: RunDirectory, paths: Paths
) -> None:
    copy = shutil.copytree(run.path, paths.runs / "digits-002")
    assert bench(paths, "diff", run.name, copy.name).exit_code == 1, "it is the same comparison"
    again = json.loads((run.path / "results.json").read_text())
    for row in again["measurements"]:
        for timing in row["timings"]:
            timing["blocks"][0]["samples_s"][0] *= 1.001
    run.write_results(Run.model_validate_json(json.dumps(again)))
    for names in (("digits-001",), ("digits-001@1", "digits-001@2"), ("digits-002", "digits-001")):
        result = bench(paths, "diff", *names, "--fail-on", "5%", "--allow-unjudged", "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert (found["comparable"], found["regressions"], found["unmatched"]) == (True, [], [])
        assert {row["difference"] for row in found["accuracy"]} == {0.0}


def test_its_training_counts_as_finished(run: RunDirectory, paths: Paths) -> None:
    weights = put_weights_into(run)
    before = weights.read_bytes()
    assert train(load("digits", AS_TRAINED), paths, NullListener()).name == run.name
    assert weights.read_bytes() == before
    assert [path.name for path in paths.runs.iterdir()] == [run.name]

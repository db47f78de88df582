"""Runs logged to MLflow: everything is there, and a failure loses nothing.

Skipped, with the reason, where MLflow is not installed: ``pip install 'foldbench[mlflow]'``.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from builders import QUICK, run_in_process
from foldbench.bench.cli import cli
from foldbench.bench.errors import MissingPackageError
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.compare import compare_run
from foldbench.bench.stages.track import log_run, require_mlflow
from foldbench.bench.store.directory import Paths, RunDirectory

SETTINGS = [*QUICK, "compare.backends=[torch]", "compare.batch_sizes=[2]"]


@pytest.fixture(scope="module")
def compared(
    trained_run: RunDirectory, trained_paths: Paths, tmp_path_factory: pytest.TempPathFactory
) -> RunDirectory:
    """A copy of the trained run, compared on torch alone."""
    import shutil

    folder = tmp_path_factory.mktemp("tracked") / trained_run.name
    shutil.copytree(trained_run.path, folder)
    run = RunDirectory(folder)
    with pytest.MonkeyPatch.context() as patch:
        run_in_process(patch)
        compare_run(run, SETTINGS, trained_paths, NullListener())
    return run


@pytest.fixture
def tracking(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pytest.importorskip("mlflow.tracking", reason="MLflow is not installed")
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    from mlflow.tracking import MlflowClient

    return SimpleNamespace(client=MlflowClient)


def logged(tracking: SimpleNamespace, address: str, config: str):
    client = tracking.client(tracking_uri=address)
    experiment = client.get_experiment_by_name(config)
    return client, client.search_runs([experiment.experiment_id])


def test_a_run_is_logged_with_settings_figures_and_files(
    tracking: SimpleNamespace, compared: RunDirectory, tmp_path: Path
) -> None:
    record = compared.results()
    address = log_run(record, compared.path, tmp_path)
    assert address == f"sqlite:///{tmp_path / 'mlflow.db'}"
    client, (found,) = logged(tracking, address, "digits")
    assert found.info.run_name == record.name
    assert found.info.status == "FINISHED"
    assert found.data.params["train.epochs"] == "1"
    assert found.data.tags["foldbench.checkpoint_sha256"] == record.checkpoint.sha256
    (scored,) = (m for m in record.measurements if m.contender == "torch/folded/cpu")
    share = scored.accuracy.correct / scored.accuracy.total
    assert found.data.metrics["accuracy/torch/folded/cpu"] == pytest.approx(share)
    assert found.data.metrics["median_s/torch/folded/cpu/batch 2"] > 0
    losses = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in losses] == [
        (epoch.epoch, epoch.loss) for epoch in record.checkpoint.history
    ]
    kept = {item.path for item in client.list_artifacts(found.info.run_id)}
    assert kept == {"results.json", "report.md", "report.html"}
    assert (tmp_path / "mlflow-artifacts").is_dir()


def test_names_that_mlflow_does_not_take_are_changed(
    tracking: SimpleNamespace, compared: RunDirectory, tmp_path: Path
) -> None:
    record = compared.results()
    row = record.measurements[0].model_copy(update={"contender": "ort:a=1+b/folded/cpu"})
    address = log_run(record.model_copy(update={"measurements": (row,)}), compared.path, tmp_path)
    _, (found,) = logged(tracking, address, "digits")
    assert "accuracy/ort:a_1_b/folded/cpu" in found.data.metrics


def test_a_stored_run_can_be_logged_later(
    tracking: SimpleNamespace, compared: RunDirectory
) -> None:
    root = compared.path.parent
    arguments = ["report", compared.name, "--tracker", "mlflow", "--runs", str(root)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert f"logged: {compared.results().name} to mlflow at sqlite:///" in result.stderr
    assert (root / "mlflow.db").is_file()


def test_a_run_is_logged_once_for_each_protocol_it_was_compared_under(
    compared: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    run = RunDirectory(shutil.copytree(compared.path, tmp_path / compared.name))
    for protocol in ("homework", "clean"):
        run.write_results(run.results().model_copy(update={"evaluation_protocol": protocol}))
    logged = []
    monkeypatch.setattr("foldbench.bench.stages.track.require_mlflow", lambda: None)
    monkeypatch.setattr(
        "foldbench.bench.stages.track.log_run",
        lambda record, folder, store: logged.append((record.evaluation_protocol, folder)),
    )
    arguments = ["report", run.name, "--both-protocols", "--tracker", "mlflow", "--runs"]
    result = CliRunner().invoke(cli, [*arguments, str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert logged == [("homework", run.path), ("clean", run.path)]


def test_a_tracker_that_cannot_be_reached_is_one_line(
    tracking: SimpleNamespace,
    compared: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at-all")
    arguments = ["report", compared.name, "--tracker", "mlflow", "--runs"]
    result = CliRunner().invoke(cli, [*arguments, str(compared.path.parent)])
    assert result.exit_code == 1
    assert "bench report --tracker mlflow" in result.stderr.splitlines()[-1]


def test_without_mlflow_it_says_what_to_install_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(MissingPackageError, match=r"foldbench\[mlflow\]"):
        require_mlflow()
    result = CliRunner().invoke(cli, ["compare", "--tracker", "mlflow", "--runs", str(tmp_path)])
    assert result.exit_code == 1
    assert "pip install 'foldbench[mlflow]'" in result.stderr

"""`bench errors`: the counts and the contact sheet of two stored runs."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from builders import QUICK
from foldbench.bench.cli import cli
from foldbench.bench.errors import RunError
from foldbench.bench.images.loading import load_scored
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Run
from foldbench.bench.stages.compare import compare_run
from foldbench.bench.store.directory import Paths, RunDirectory


@pytest.fixture(scope="module")
def measured_runs(tmp_path_factory: pytest.TempPathFactory, trained_run: RunDirectory) -> Path:
    """A folder of runs for a copy of the finished training, which stays as it is."""
    runs = tmp_path_factory.mktemp("measured") / "runs"
    shutil.copytree(trained_run.path, runs / trained_run.name)
    return runs


@pytest.fixture(scope="module")
def measured(trained_run: RunDirectory, trained_paths: Paths, measured_runs: Path) -> Run:
    """A comparison of the finished training, torch on the CPU alone."""
    only = ("compare.backends=[torch]", "compare.devices=[cpu]", "compare.budget_s=1")
    quick = (*QUICK, *only, "compare.rounds=1")
    copy = RunDirectory(measured_runs / trained_run.name)
    return compare_run(copy, quick, Paths(measured_runs, trained_paths.cache), NullListener())


def test_the_command_counts_and_draws(
    measured: Run, measured_runs: Path, tmp_path: Path, monkeypatch
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(measured_runs, runs)
    first = RunDirectory(runs / measured.name)
    twin = RunDirectory(runs / "digits-777")
    shutil.copytree(first.path, twin.path)
    twin.write_results(twin.results().model_copy(update={"name": "digits-777"}))
    sheet = tmp_path / "sheet.png"
    monkeypatch.setenv("FOLDBENCH_RUNS", str(runs))
    call = [first.name, "digits-777", "--sheet", str(sheet)]
    shown = CliRunner().invoke(cli, ["errors", *call])
    assert shown.exit_code == 0, shown.output
    assert "both wrong" in shown.stdout
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    as_json = json.loads(CliRunner().invoke(cli, ["errors", *call, "--json"]).stdout)
    assert (as_json["only_a"], as_json["only_b"], as_json["p_value"]) == (0, 0, 1)
    assert as_json["images"] == measured.data.test_count
    assert as_json["contact_sheet"] == str(sheet)


def test_a_data_set_that_is_not_the_one_scored_is_refused(measured: Run, tmp_path: Path) -> None:
    other = measured.model_copy(
        update={"data": measured.data.model_copy(update={"sha256": "0" * 64})}
    )
    with pytest.raises(RunError, match="does not hold the images"):
        load_scored(other, (), tmp_path, NullListener())

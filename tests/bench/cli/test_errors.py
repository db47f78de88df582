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


@pytest.fixture
def measured(own_run: RunDirectory, paths: Paths, in_process: None) -> Run:
    """A comparison of the finished training, torch on the CPU alone."""
    quick = (*QUICK, "compare.backends=[torch]", "compare.rounds=1")
    return compare_run(own_run, quick, paths, NullListener())


def test_the_command_counts_and_draws(
    measured: Run, own_run: RunDirectory, paths: Paths, tmp_path: Path, monkeypatch
) -> None:
    twin = RunDirectory(paths.runs / "digits-777")
    shutil.copytree(own_run.path, twin.path)
    twin.write_results(twin.results().model_copy(update={"name": "digits-777"}))
    sheet = tmp_path / "sheet.png"
    monkeypatch.setenv("FOLDBENCH_RUNS", str(paths.runs))
    call = [own_run.name, "digits-777", "--sheet", str(sheet)]
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
    with pytest.raises(RunError, match=other.data.name):
        load_scored(other, (), tmp_path, NullListener())

"""`bench report` and `bench history` from stored records alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from foldbench.bench.cli import cli
from foldbench.bench.records import ContenderProfile, OperatorTime, Profile
from foldbench.bench.store.directory import RunDirectory, create_run
from foldbench.reports.render import render

HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxscript", "sklearn")
STARTS = {"terminal": "bn_cnn-", "md": "# bn", "html": "<!DOCTYPE html>", "json": "{"}
STARTS["csv"] = "run,created,config,"


@pytest.fixture
def stored(build, tmp_path: Path) -> RunDirectory:
    """A run directory that holds a record and nothing else."""
    run = create_run(tmp_path / "runs", "bn_cnn", {"config_name": "bn_cnn"})
    run.write_results(build.run(name=run.name))
    return run


@pytest.fixture
def bench(stored: RunDirectory):
    def invoke(*arguments: str):
        return CliRunner().invoke(cli, [*arguments, "--runs", str(stored.path.parent)])

    return invoke


@pytest.mark.parametrize("form", STARTS)
def test_every_form_goes_to_stdout_or_to_a_file(bench, tmp_path: Path, form: str) -> None:
    printed = bench("report", "bn_cnn", "--format", form)
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.startswith(STARTS[form])
    target = tmp_path / "new folder" / "report"
    written = bench("report", "bn_cnn", "--format", form, "--output", str(target))
    assert (written.stdout, written.stderr) == ("", f"written: {target}\n")
    assert target.read_text(encoding="utf-8") == printed.stdout
    by_ending = target.with_suffix(f".{form}")
    bench("report", "bn_cnn", "--output", str(by_ending))
    assert by_ending.read_text(encoding="utf-8") == printed.stdout


def test_nothing_heavy_has_to_be_installed(stored: RunDirectory, build) -> None:
    stored.write_results(build.run(measurements=build.run().measurements[1:]))
    code = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"no {{name}} here")

sys.meta_path.insert(0, Absent())
from foldbench.bench.cli import cli
for command in ("report", "history"):
    for form in {tuple(STARTS)!r}:
        cli([command, "--runs", {str(stored.path.parent)!r}, "--format", form],
            standalone_mode=False)
cli(["diff", {stored.name!r}, "--runs", {str(stored.path.parent)!r}],
    standalone_mode=False)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for start in STARTS.values():
        assert f"\n{start}" in f"\n{done.stdout}"


def test_a_file_that_cannot_be_written_is_one_line_and_exit_code_1(bench, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    result = bench("report", "bn_cnn", "--output", str(tmp_path / "taken" / "report.html"))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "cannot write" in result.stderr


def test_a_profile_filters_and_feature_maps_are_shown_where_they_were_made(
    bench, stored: RunDirectory
) -> None:
    operators = (OperatorTime(operator="Conv", node=None, placed_on="cpu", time_s=0.001, calls=3),)
    one = ContenderProfile(
        contender="ort/folded/cpu",
        backend="ort",
        variant="folded",
        device="cpu",
        batch_size=1,
        status="ok",
        operators=operators,
    )
    stored.write_profile(Profile(name=stored.name, created="", threads=2, profiles=(one,)))
    (stored.path / "filters.png").write_bytes(b"\x89PNG")
    (stored.path / "features").mkdir()
    for layer in (12, 5):
        (stored.path / "features" / f"cat.features.{layer}.png").write_bytes(b"\x89PNG")
    page = bench("report", "bn_cnn", "--format", "html").stdout
    assert "Operators, batch 1" in page
    assert "100.0 % 1.00 Conv ×3" in page
    assert "First-layer filters of bn_cnn-001" in page
    assert page.index("bn_cnn-001: cat.features.5") < page.index("bn_cnn-001: cat.features.12")
    assert "Operators, batch 1" in bench("report", "bn_cnn", "--format", "md").stdout
    assert "Operators" not in bench("report", "bn_cnn").stdout


def test_history_takes_every_compared_run_of_a_config(bench, build, stored: RunDirectory) -> None:
    again = create_run(stored.path.parent, "bn_cnn", {"config_name": "bn_cnn"})
    assert "1 comparison on" in bench("history", "bn_cnn").stdout
    again.write_results(build.run(name=again.name, created="2025-03-02T12:00:00Z"))
    result = bench("history", "bn_cnn")
    assert result.exit_code == 0, result.output
    assert "2 comparisons on AMD" in result.stdout
    assert "bn_cnn-002" in result.stdout


def test_an_unknown_config_gets_a_suggestion(bench) -> None:
    result = bench("history", "bn_cn")
    assert result.exit_code == 1
    assert "did you mean 'bn_cnn'?" in result.stderr


def test_no_compared_run_is_said_with_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["history", "--runs", str(tmp_path)])
    assert result.exit_code == 1
    assert "bench compare" in result.stderr


def test_colour_adds_escapes_and_changes_nothing_else(build) -> None:
    plain = render(build.run())
    coloured = render(build.run(), colour=True)
    assert "\x1b" not in plain
    assert "\x1b[32mfaster\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


def test_what_is_not_a_terminal_gets_no_colour(bench) -> None:
    assert "\x1b" not in bench("report", "bn_cnn").stdout

"""What the terminal gets: one line for each error, and nothing that steers it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import foldbench
from builders import make_run
from foldbench.bench import torchrun
from foldbench.bench.cli import cli, unforeseen
from foldbench.bench.cli.console import PlainListener
from foldbench.bench.errors import BenchError
from foldbench.bench.store.directory import create_run
from foldbench.reports.render import render

STEERING = "\x1b]0;title\x07\x1b[31mred\x1b[0m\r\x9b2J\u202e\u2028\x7f\0"
"""Sequences that set a title, a colour, clear the screen or turn the direction of text."""


def steers(text: str) -> bool:
    return any(not c.isprintable() and c != "\n" for c in text)


def invoke(*arguments: object, **options: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], **options)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run whose folder is called like something that steers a terminal."""
    root = tmp_path / "runs"
    run = create_run(root, "digits", {})
    run.path.rename(root / STEERING.replace("\0", ""))
    return root


@pytest.mark.parametrize("command", [["list"], ["report", "nosuch"], ["diff", "nosuch", "other"]])
def test_names_of_runs_do_not_steer_the_terminal(runs: Path, command: list[str]) -> None:
    result = invoke(*command, "--runs", runs)
    assert "title" in result.output
    assert not steers(result.output)


def test_names_of_configurations_do_not_steer_the_terminal(tmp_path: Path) -> None:
    name = STEERING.replace("\0", "")
    (tmp_path / f"{name}.yaml").write_text("")
    (tmp_path / "a.yaml").write_text("extends: nowhere")
    result = invoke("config", "show", tmp_path / "a.yaml")
    assert "title" in result.output
    assert not steers(result.output)


@pytest.mark.parametrize(
    "text",
    [
        'model: {name: "\\e[31mred"}',
        '"\\e[31mred": 1',
        'train: {schedule: {name: "\\e]0;title\\a"}}',
        'compare: {backends: ["ort:\\e[31m"]}',
        'data: {name: "\\u202e"}',
        'export: {passes: ["\\x9b2J"]}',
        "extends: '\x85'",
        "model: {name: bn_cnn\x1b}",
    ],
)
def test_values_in_configurations_do_not_steer_the_terminal(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    result = invoke("config", "show", tmp_path / "a.yaml")
    assert result.exit_code == 1
    assert not steers(result.output)
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("form", ["terminal", "md", "csv"])
def test_records_do_not_steer_the_terminal(form: str) -> None:
    data = make_run().data.model_copy(update={"title": STEERING})
    text = render([make_run(name=f"digits{STEERING}", data=data)], form)  # type: ignore[arg-type]
    assert not steers(text)


def test_notes_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    PlainListener().note(f"reading {STEERING}\nsecond line")
    err = capsys.readouterr().err
    assert not steers(err)
    assert err.count("\n") == 2


@pytest.mark.parametrize("length", [10_000, 900_000])
def test_a_long_name_is_cut(tmp_path: Path, length: int) -> None:
    (tmp_path / "a.yaml").write_text(f"model: {{name: {'n' * length}}}")
    result = invoke("config", "show", tmp_path / "a.yaml")
    assert result.exit_code == 1
    assert len(result.output) < 3000
    assert "bn_cnn" in result.output


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"c{number:03d}.yaml").write_text("")
    (tmp_path / "a.yaml").write_text("extends: nowhere")
    assert "c299" not in invoke("config", "show", tmp_path / "a.yaml").output


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A command that raises what nothing foresaw; returns the cache folder."""
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path / "cache"))

    def fail(*_: object) -> None:
        raise KeyError("left out")

    monkeypatch.setattr("foldbench.bench.cli.listing.collect_names", fail)
    return tmp_path / "cache"


def test_what_is_unforeseen_is_one_line_and_a_file(broken: Path) -> None:
    result = invoke("list")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    (kept,) = (broken / "errors").iterdir()
    assert str(kept) in result.output
    assert "Traceback" in kept.read_text()


@pytest.mark.parametrize("by", ["option", "variable"])
def test_the_traceback_is_shown_where_it_is_asked_for(
    broken: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv(unforeseen.VARIABLE, "0" if by == "option" else "1")
    result = invoke(*(["--traceback"] if by == "option" else []), "list")
    assert "Traceback" in result.output
    assert "KeyError" in result.output


def test_a_file_that_cannot_be_written_does_not_hide_the_error(
    broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.write_text("no folder")
    monkeypatch.setenv("FOLDBENCH_CACHE", str(broken / "below"))
    monkeypatch.setattr(unforeseen.tempfile, "gettempdir", lambda: str(broken))
    result = invoke("list")
    assert result.output.count("\n") == 1
    assert unforeseen.VARIABLE in result.output


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), AssertionError(), ZeroDivisionError("zero")]
)
def test_every_kind_of_error_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOLDBENCH_CACHE", str(tmp_path))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("foldbench.bench.cli.listing.collect_names", fail)
    result = invoke("list")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)


def test_help_and_usage_stay_as_they_are() -> None:
    assert invoke("--help").output.count("\n") > 10
    assert invoke("config").exit_code == 2
    assert invoke("list", "--nosuch").exit_code == 2


@pytest.mark.parametrize(
    "given",
    [
        {"TORCHELASTIC_RUN_ID": "x"},
        {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "abc"},
        {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": ""},
        {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "-1"},
        {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1.5"},
    ],
)
def test_half_of_torchruns_variables_are_refused(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BenchError, match="WORLD_SIZE"):
        torchrun.world_size()
    result = invoke("list")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)


def test_workers_variables_without_torchrun_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "abc")
    assert torchrun.world_size() == 1


def shell(line: str, folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of sh in which $bench is the command."""
    home = str(Path(foldbench.__file__).parents[1])
    given = os.environ | {"PYTHONPATH": home, "bench": f"{sys.executable} -m foldbench", **more}
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=given, capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(os.name == "nt", reason="needs sh")
@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("$bench list --runs . >&-", {}),
        ("$bench list --runs . 2>&-", {}),
        ("$bench list --runs . <&- >&- 2>&-", {}),
        ("$bench config show digits >&-", {}),
        ("$bench list --runs .", {"PYTHONIOENCODING": "latin-1"}),
        ("$bench list --runs .", {"PYTHONIOENCODING": "ascii"}),
        ("$bench list --runs . | head -1", {}),
    ],
)
def test_streams_that_are_closed_or_narrow_are_no_error(
    line: str, more: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "\u540d-001").mkdir()
    (tmp_path / "\u540d-001" / "run.json").write_text("{}")
    ended = shell(line, tmp_path, **more)
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr + ended.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="needs ulimit -v")
def test_too_little_memory_for_a_library_is_one_line(tmp_path: Path) -> None:
    line = "ulimit -v 700000; $bench train digits --runs ."
    ended = shell(line, tmp_path, FOLDBENCH_CACHE=str(tmp_path), OPENBLAS_NUM_THREADS="1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.count("\n") == 1


def test_click_reports_its_own_errors_without_control_characters() -> None:
    assert not steers(invoke(f"no\x1b[31m{'x' * 50}").output)
    assert isinstance(click.UsageError("x"), click.ClickException)


def test_json_stays_json(runs: Path) -> None:
    found = json.loads(invoke("list", "--json", "--runs", runs).output)
    assert STEERING.replace("\0", "") in found["runs"]


def test_a_log_says_how_far_it_is_from_the_first_moment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("foldbench.bench.cli.console._PLAIN_INTERVAL_S", 0.0)
    listener = PlainListener()
    listener.begin("tests", 3)
    listener.advance(0, "a")
    listener.advance(1, "b")
    _, first, second = capsys.readouterr().err.splitlines()
    assert first == "tests: 0 %  a"
    assert second.startswith("tests: 33 %  b  ")

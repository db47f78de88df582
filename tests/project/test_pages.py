"""The commands in README and docs do what they say; what is generated in them is fresh."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from click.testing import CliRunner

from builders import INT8, QUICK
from foldbench.bench.cli import cli
from foldbench.bench.cli.failures import UNJUDGED
from foldbench.bench.config.backend_spec import parse_spec
from foldbench.bench.config.files import load
from foldbench.bench.records import Run
from foldbench.bench.registry import BACKENDS
from foldbench.bench.stages import doctor
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.workers.server import WorkerServer

ROOT = Path(__file__).parent.parent.parent
CUT_DOWN = (
    *QUICK,
    "data.image_size=16",
    "compare.rounds=1",
    *(text for text in INT8 if "quantize" not in text),
)
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


def commands(start: str, *pages: str) -> list[str]:
    """Return the shell lines of `pages` (all by default) that begin with `start`, uncommented."""
    text = "\n".join(PAGES[page] for page in pages or PAGES)
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = (line.partition("#")[0].strip() for block in blocks for line in block.splitlines())
    return list(dict.fromkeys(line for line in lines if line.startswith(f"{start} ")))


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user does, also when a make runs these tests."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", commands("make"))
def test_every_make_command_is_a_target_that_sets_up_what_it_needs(command: str) -> None:
    done = make(*shlex.split(command)[1:], "--dry-run", "VENV=/nowhere/venv")
    assert done.returncode == 0, done.stderr
    assert "-m venv /nowhere/venv" in done.stdout
    assert "pip install" in done.stdout
    assert ("+cpu torchvision==" in done.stdout) == ("CPU=1" in command)
    runs = {
        "make run": "bench run digits",
        "make run CPU=1": "bench run digits",
        "make test": "python -m pytest -n auto --maxprocesses 8 --dist loadfile "
        "--no-loadscope-reorder",
    }[command]
    assert done.stdout.rstrip().endswith(runs)


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = make("help")
    assert re.findall(r"^  make (\w+): ", shown.stdout, re.MULTILINE) == phony.split()


@pytest.mark.parametrize(
    "command",
    [*commands("bench"), *(line.partition(" -m ")[2] for line in commands("torchrun"))],
)
def test_every_bench_command_is_one_that_the_command_line_takes(command: str) -> None:
    _, *arguments = shlex.split(command)
    context = cli.make_context("bench", list(arguments))
    name, found, rest = cli.resolve_command(context, arguments)
    assert found is not None
    found.make_context(name, rest, parent=context)


@pytest.mark.usefixtures("in_process")
def test_the_commands_on_digits_run_one_after_the_other(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All commands of the tour, with the settings cut down to seconds."""
    monkeypatch.setattr("foldbench.bench.measure.profiling.WorkerClient", WorkerServer)
    monkeypatch.setattr(doctor, "FAULTS", doctor.FAULTS[:1])
    monkeypatch.setenv("FOLDBENCH_RUNS", str(paths.runs))
    monkeypatch.setenv("FOLDBENCH_CACHE", str(paths.cache))
    monkeypatch.chdir(paths.runs.parent)  # for what is written to the folder one is in
    quick = [f"--set={text}" for text in CUT_DOWN]
    lines = commands("bench", "tutorial.md")
    assert len(lines) >= 15
    for line in lines:
        arguments = shlex.split(line)[1:]
        if "--scenario" in arguments and find_spec("mlperf_loadgen") is None:
            continue  # LoadGen has no build for this platform
        takes_settings = arguments[0] in ("train", "export", "compare", "run")
        if arguments[0] == "diff":
            measure_again(paths.runs, *arguments[1:3])
        arguments = ["cpu" if argument == "auto" else argument for argument in arguments]
        result = CliRunner().invoke(cli, [*arguments, *(quick if takes_settings else [])])
        # two rounds are too few to judge a latency
        expected = UNJUDGED if "--fail-on" in arguments else 0
        assert result.exit_code == expected, f"{line}: {result.output}"


def measure_again(runs: Path, name: str, other: str = "--") -> None:
    """Add a comparison to the run `name`, or to a copy of it called `other`, unless an option."""
    run = RunDirectory(runs / name)
    if not other.startswith("-"):
        run = RunDirectory(shutil.copytree(run.path, runs / other))
    record = json.loads(run.results().model_dump_json())
    for row in record["measurements"]:
        for timing in row["timings"]:
            timing["blocks"][0]["samples_s"][0] *= 1.001
    run.write_results(Run.model_validate_json(json.dumps(record)))


def test_every_contender_and_option_it_names_is_one_that_there_is() -> None:
    section = PAGES["contenders.md"]
    (command,) = re.findall(r"--backends (\S+)", section)
    for contender in command.split(","):
        spec = parse_spec(contender)
        assert set(spec.options) <= set(BACKENDS.options(spec.backend)), contender
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE)
    named = {
        f"{backend}:{option}"
        for options, backends in rows
        for backend in re.findall(r"`(\w+)`", backends)
        if backend in BACKENDS.names()
        for option in re.findall(r"`(\w+)(?:=\w+)?`", options)
    }
    there_are = {
        f"{backend}:{option}"
        for backend in BACKENDS.names()
        if backend != "fake"
        for option in BACKENDS.options(backend)
    }
    assert named == there_are


def test_the_configuration_it_shows_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGES["training.md"], re.DOTALL)
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    config = load(str(path)).config
    assert (config.train.epochs, config.data.image_size) == (10, (64, 96))
    assert config.train.protocol == "homework"


def test_generated_pages_and_tables_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), "run python docs/generate.py"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page].replace("\n", " ")):
        path, _, section = link.partition("#")
        if "://" in link:
            continue
        target = (folder / path).resolve() if path else folder / page
        assert target.exists(), link
        if section:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert section in slugs, link


def test_the_front_page_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 130


def test_the_vocabulary_is_held_against_prose_and_not_against_code() -> None:
    spec = spec_from_file_location("wording", ROOT / "docs" / "wording.py")
    wording = module_from_spec(spec)
    spec.loader.exec_module(wording)
    text = "The gate\ngoes on.\n```sh\nbench goes on\n```\nSee `left out` and [it](left out)."
    assert [(line, word) for line, word, _ in wording.faults(text)] == [(2, "goes on")]

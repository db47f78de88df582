"""A command line in the test's own folders, and one exported run for all its tests."""

import shutil
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

from builders import QUICK
from foldbench.bench.cli import cli
from foldbench.bench.errors import BenchError
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.export import export
from foldbench.bench.store.directory import Paths, RunDirectory

Bench = Callable[..., Result]


@pytest.fixture
def bench(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Run a command in the test's own folders."""
    monkeypatch.setenv("FOLDBENCH_RUNS", str(paths.runs))
    monkeypatch.setenv("FOLDBENCH_CACHE", str(paths.cache))

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), prog_name="bench")

    return call


@pytest.fixture
def refusal(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BenchError]:
    """Run a command that is refused with exit code 1 and one line; return the library's error."""
    monkeypatch.setenv("FOLDBENCH_RUNS", str(paths.runs))
    monkeypatch.setenv("FOLDBENCH_CACHE", str(paths.cache))

    def call(*arguments: str) -> BenchError:
        result = CliRunner().invoke(cli, list(arguments), standalone_mode=False)
        shown = result.exception
        assert isinstance(shown, click.ClickException), result.output
        assert (shown.exit_code, result.stdout) == (1, "")
        assert "\n" not in shown.message
        assert isinstance(shown.__cause__, BenchError)
        return shown.__cause__

    return call


@pytest.fixture(scope="session")
def exported_run(
    trained_run: RunDirectory, trained_paths: Paths, tmp_path_factory: pytest.TempPathFactory
) -> RunDirectory:
    """The finished training with its folded file; read it only."""
    copy = RunDirectory(tmp_path_factory.mktemp("exported") / trained_run.name)
    shutil.copytree(trained_run.path, copy.path)
    export(copy, QUICK, trained_paths, NullListener())
    return copy


@pytest.fixture
def own_exported_run(exported_run: RunDirectory, paths: Paths) -> RunDirectory:
    """A copy of the exported run in the test's own folder."""
    shutil.copytree(exported_run.path, paths.runs / exported_run.name)
    return RunDirectory(paths.runs / exported_run.name)

"""A command line in the test's own folders."""

from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

from foldbench.bench.cli import cli
from foldbench.bench.errors import BenchError
from foldbench.bench.store.directory import Paths

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

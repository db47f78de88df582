"""The argument RUN: which runs a command works on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli.echo import echo

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths, RunDirectory

run_argument = click.argument("names", metavar="[RUN]...", nargs=-1)


def choose_runs(
    names: Sequence[str], paths: "Paths", compared: bool = False
) -> tuple["RunDirectory", ...]:
    """Return the runs called `names`, or the newest one of each config; then say which."""
    from foldbench.bench.store.finding import find_runs, newest_runs

    if names:
        return find_runs(paths.runs, names)
    runs = newest_runs(paths.runs, compared)
    echo(f"newest run of each config: {', '.join(run.name for run in runs)}", err=True)
    return runs

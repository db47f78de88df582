"""The command `bench profile`: where the time goes, operator by operator."""

from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import fail_on_rows
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import (
    data_option,
    profiled_options,
    set_option,
    shared_options,
    subject_options,
    with_overrides,
)
from foldbench.bench.cli.runs import choose_subjects, subject_argument

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "profile digits-001 --backends torch,ort",
        "profile digits-001 --nodes --top 20",
    ),
)
@subject_argument
@profiled_options
@click.option(
    "--top", type=click.IntRange(min=1), default=12, show_default=True, help="How many to list."
)
@click.option("--nodes", is_flag=True, help="By place in the graph rather than by operator.")
@subject_options
@data_option
@set_option
@shared_options
@with_overrides
def profile(
    names: tuple[str, ...],
    top: int,
    nodes: bool,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Show which operators take the time, on every backend.

    Each contender runs alone, in a process of its own, under its runtime's profiler. Without RUN,
    the newest run of each config is taken. The record is profile.json in the run.
    """
    from foldbench.bench.stages.profiling import profile_run
    from foldbench.reports.formats.terminal import render_terminal
    from foldbench.reports.sections.operators import build_profile

    with progress() as listener:
        runs, overrides = choose_subjects(names, overrides, paths, listener)
        found = [profile_run(run, overrides, paths, listener) for run in runs]
    if as_json:
        output.print_json({"profiles": [one.model_dump(mode="json") for one in found]})
        return
    for run, one in zip(runs, found, strict=True):
        echo(render_terminal(build_profile(one, top, nodes)))
        echo(f"written: {run.path / 'profile.json'}")
    fail_on_rows([row for one in found for row in one.profiles])

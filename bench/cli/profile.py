"""The command `bench profile`: where the time goes, operator by operator."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output, tasks
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.options import (
    data_option,
    run_argument,
    set_option,
    shared_options,
    with_data,
    yaml_list,
)

if TYPE_CHECKING:
    from foldbench.bench.stages.train import Paths


@click.command()
@run_argument
@click.option(
    "--backends", metavar="NAME[,NAME]...", help="Such as torch,ort.  [default: by config]"
)
@click.option("--devices", metavar="auto|cpu|cuda[,...]", help="As for bench compare.")
@click.option("--batch-sizes", metavar="N[,N]...", help="Such as 1,64.  [default: by config]")
@click.option("--top", type=click.IntRange(min=1), default=12, show_default=True)
@click.option("--nodes", is_flag=True, help="By place in the graph rather than by operator.")
@data_option
@set_option
@shared_options
def profile(
    names: tuple[str, ...],
    backends: str | None,
    devices: str | None,
    batch_sizes: str | None,
    top: int,
    nodes: bool,
    data: Path | None,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Show which operators of each RUN take the time, on every backend side by side.

    Each contender runs alone, in a process of its own, under its runtime's profiler. Without RUN,
    the newest run of each config is taken. The record is profile.json in the run.
    """
    from foldbench.reports.formats.terminal import render_terminal
    from foldbench.reports.sections.operators import build_profile

    given = {
        "compare.backends": yaml_list(backends),
        "compare.devices": yaml_list(devices),
        "compare.batch_sizes": yaml_list(batch_sizes),
    }
    named = tuple(f"{key}={value}" for key, value in given.items() if value is not None)
    runs = tasks.choose_runs(names, paths)
    found = [tasks.profile(run, with_data((*overrides, *named), data), paths) for run in runs]
    if as_json:
        output.print_json({"profiles": [one.model_dump(mode="json") for one in found]})
        return
    for run, one in zip(runs, found, strict=True):
        echo(render_terminal(build_profile(one, top, nodes)))
        echo(f"written: {run.path / 'profile.json'}")
    output.fail_on([row for one in found for row in one.profiles])

"""The commands `bench train` and `bench run`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench import torchrun
from foldbench.bench.cli import output, tasks
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.options import (
    data_option,
    network_options,
    set_option,
    shared_options,
    tracker_option,
    with_weights,
)

if TYPE_CHECKING:
    from foldbench.bench.stages.train import Paths

_fresh_option = click.option("--fresh", is_flag=True, help="Train anew even if it has been done.")


@click.command()
@click.argument("name")
@data_option
@network_options
@set_option
@_fresh_option
@shared_options
def train(
    name: str,
    data: Path | None,
    weights: str | None,
    download: bool,
    overrides: tuple[str, ...],
    fresh: bool,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Train the network of config NAME.

    NAME is a config from `bench list` or a path to a YAML file. Killed and started again, it goes
    on after the last finished epoch. Processes that torchrun starts share the work:
    torchrun --nproc-per-node 2 -m bench train NAME
    """
    given = with_weights(overrides, data, weights, download)
    run = tasks.train(name, given, fresh, paths)
    if torchrun.rank() > 0:
        return
    checkpoint = run.checkpoint()
    if as_json:
        output.print_json(
            {
                "run": run.name,
                "path": str(run.path),
                "checkpoint": checkpoint.model_dump(mode="json"),
            }
        )
        return
    echo(f"weights: {run.path / checkpoint.weights} (sha256 {checkpoint.sha256[:12]}…)")
    echo(f"record:  {run.path / 'checkpoint.json'}")


@click.command("run")
@click.argument("name")
@data_option
@network_options
@set_option
@_fresh_option
@tracker_option
@shared_options
def run_all(
    name: str,
    data: Path | None,
    weights: str | None,
    download: bool,
    overrides: tuple[str, ...],
    fresh: bool,
    tracker: str | None,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Train, export, compare and report config NAME, all of it."""
    given = with_weights(overrides, data, weights, download)
    tasks.require_packages(name, given)
    tasks.require_tracker(tracker)
    run = tasks.train(name, given, fresh, paths)
    # What the weights were is part of the run by now.
    given = with_weights(overrides, data, None, False)
    tasks.export(run, given, paths)
    records = [tasks.compare(run, given, paths)]
    output.print_report(records, as_json)
    tasks.track(tracker, [run], records, paths)
    output.print_written([run], as_json)
    output.fail_loudly(records)

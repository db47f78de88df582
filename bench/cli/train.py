"""The commands `bench train` and `bench run`."""

import sys
from typing import TYPE_CHECKING

import click

from foldbench.bench import torchrun
from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import fail_on_records
from foldbench.bench.cli.options import (
    data_option,
    set_option,
    shared_options,
    transfer_options,
    with_overrides,
)
from foldbench.bench.cli.tracker import track, tracker_option

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths

_fresh_option = click.option("--fresh", is_flag=True, help="Train anew even if it has been done.")


@click.command()
@click.argument("name")
@data_option
@transfer_options
@set_option
@_fresh_option
@shared_options
@with_overrides
def train(
    name: str, overrides: tuple[str, ...], fresh: bool, paths: "Paths", as_json: bool
) -> None:
    """Train the network of config NAME.

    NAME is a config from `bench list` or a path to a YAML file. Killed and started again, it goes
    on after the last finished epoch. Processes that torchrun starts share the work:
    torchrun --nproc-per-node 2 -m foldbench train NAME
    """
    from foldbench.bench.config.files import load
    from foldbench.bench.stages import train as stage

    is_main = torchrun.rank() == 0
    with progress(shown=is_main) as listener:
        run = stage.train(load(name, overrides), paths, listener, fresh)
    if not is_main:
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
@transfer_options
@set_option
@_fresh_option
@tracker_option
@shared_options
@with_overrides
def run_all(
    name: str,
    overrides: tuple[str, ...],
    fresh: bool,
    tracker: str | None,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Train, export, compare and report config NAME, all of it."""
    from foldbench.bench.config.files import load
    from foldbench.bench.stages.compare import compare_run
    from foldbench.bench.stages.export import export
    from foldbench.bench.stages.train import train
    from foldbench.bench.timing.scenarios import require_loadgen

    loaded = load(name, overrides)
    if loaded.config.compare.loadgen.scenarios:
        require_loadgen()
    # What the weights were is part of the run once it is trained.
    later = tuple(one for one in overrides if not one.startswith("transfer."))
    with progress() as listener:
        run = train(loaded, paths, listener, fresh)
        export(run, later, paths, listener)
        command = ("bench", *sys.argv[1:])
        records = [compare_run(run, later, paths, listener, command)]
    output.print_report(records, as_json)
    track(tracker, [run], records, paths)
    output.print_written([run], as_json)
    fail_on_records(records)

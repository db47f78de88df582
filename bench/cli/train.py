"""The commands `bench train` and `bench run`."""

import sys
import time
from typing import TYPE_CHECKING

import click

from foldbench.bench import torchrun
from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import fail_on_records
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import (
    calibration_options,
    config_option,
    contender_options,
    data_option,
    describing_options,
    set_option,
    shared_options,
    transfer_options,
    with_overrides,
)
from foldbench.bench.cli.runs import OF_NETWORK, find_subject, say_weights_of
from foldbench.bench.cli.tracker import track, tracker_option
from foldbench.bench.cli.values import Seconds

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths

_fresh_option = click.option("--fresh", is_flag=True, help="Train anew even if it has been done.")


@command(
    examples=(
        "train digits",
        "train deep_mish --data cifar10-images.tar.xz --set train.epochs=2",
    ),
)
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
    """Train the network of a config.

    NAME is a config from `bench list` or a path to a YAML file. Killed and started again, it goes
    on after the last finished epoch. Processes that torchrun starts share the work:
    torchrun --nproc-per-node 2 -m foldbench train NAME
    """
    from foldbench.bench.config.files import load
    from foldbench.bench.stages import train as stage

    is_main = torchrun.rank() == 0
    overrides = say_weights_of(name, overrides)
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


@command(
    "run",
    examples=(
        "run digits",
        "run net.py:MyNet --weights my.pt --input 3x64x64 --data photos/val",
    ),
)
@click.argument("name", metavar="CONFIG|NETWORK")
@data_option
@transfer_options
@describing_options
@calibration_options
@contender_options
@config_option(
    "compare.budget_s", "--budget", type=Seconds(), help="Most time for the rounds of each device."
)
@set_option
@_fresh_option
@tracker_option
@shared_options
@with_overrides
@output.shown_options
def run_all(
    name: str,
    overrides: tuple[str, ...],
    fresh: bool,
    tracker: str | None,
    paths: "Paths",
    shown: output.Shown,
) -> None:
    """Train or add, export, compare and report, in one go.

    CONFIG is trained first (bench list names them). NETWORK is added as it is: it is one of your
    own, such as net.py:MyNet (see bench add).
    """
    from foldbench.bench.config.files import load
    from foldbench.bench.stages.add import add
    from foldbench.bench.stages.compare import compare_run
    from foldbench.bench.stages.export import try_export
    from foldbench.bench.stages.train import train
    from foldbench.bench.timing.scenarios import require_loadgen

    overrides = say_weights_of(name, overrides)
    own = find_subject(name, overrides)
    loaded = own or load(name, overrides)
    if loaded.config.compare.loadgen.scenarios:
        require_loadgen()
    # What the network and its weights were is part of the run from then on.
    later = tuple(one for one in overrides if not one.startswith(("transfer.", *OF_NETWORK)))
    with progress(not shown.quiet) as listener:
        run = add(own, paths, listener, fresh) if own else train(loaded, paths, listener, fresh)
        reason = try_export(run, later, paths, listener)
        failed = {run.name: reason} if reason else {}
        command = ("bench", *sys.argv[1:])
        began_s = time.monotonic()
        records = [compare_run(run, later, paths, listener, command, not_exported=failed)]
    output.print_report(records, shown, time.monotonic() - began_s)
    track(tracker, [run], records, paths)
    output.print_written([run], shown)
    fail_on_records(records)

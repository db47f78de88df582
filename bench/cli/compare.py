"""The command `bench compare`: accuracy and latency of runs on every backend and device."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output, tasks
from foldbench.bench.cli.options import (
    FiniteNumber,
    Seconds,
    data_option,
    run_argument,
    set_option,
    shared_options,
    tracker_option,
    with_data,
    yaml_list,
)

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths

_COMMA_LIST = "NAME[,NAME]..."


@click.command()
@run_argument
@click.option("--backends", metavar=_COMMA_LIST, help="Such as torch,ort.  [default: by config]")
@click.option(
    "--devices",
    metavar="auto|cpu|cuda[,...]",
    help="auto is the CPU, and CUDA where there is an NVIDIA GPU.  [default: by config]",
)
@click.option("--batch-sizes", metavar="N[,N]...", help="Such as 1,64.  [default: by config]")
@click.option(
    "--ablation",
    "--ladder",
    "ablation",
    is_flag=True,
    help="Also benchmark each intermediate optimization step.",
)
@click.option("--rounds", type=click.IntRange(min=1), help="Clean rounds.  [default: by config]")
@click.option("--budget", type=Seconds(), help="Most time for the rounds of each device: 60s, 5m.")
@click.option("--repeat", type=click.IntRange(min=1), help="Whole repetitions, minutes apart.")
@click.option(
    "--scenario",
    metavar=_COMMA_LIST,
    help="MLPerf scenarios, driven by LoadGen in place of the rounds: singlestream, multistream, "
    "offline, server.",
)
@click.option(
    "--qps",
    type=FiniteNumber(min=0, min_open=True),
    metavar="NUMBER",
    help="Images that arrive per second (scenario server).",
)
@click.option("--duration", type=Seconds(), help="Least time of a scenario.  [default: by config]")
@click.option(
    "--protocol",
    type=click.Choice(["homework", "clean"]),
    help="How accuracy is taken: on flipped and cropped test images, or as they are.",
)
@click.option("--fresh", is_flag=True, help="Begin anew, even if an interrupted one could go on.")
@tracker_option
@data_option
@set_option
@shared_options
def compare(
    names: tuple[str, ...],
    backends: str | None,
    devices: str | None,
    batch_sizes: str | None,
    rounds: int | None,
    budget: float | None,
    repeat: int | None,
    ablation: bool,
    scenario: str | None,
    qps: float | None,
    duration: float | None,
    protocol: str | None,
    fresh: bool,
    tracker: str | None,
    data: Path | None,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Measure accuracy and latency of each RUN on every backend and device.

    Without RUN, the newest run of each config is taken. Interrupted and started again with the same
    settings, it goes on where it stopped. Exit code 1 when a row failed.
    """
    _refuse_what_does_not_fit(scenario, qps, duration, rounds, budget)
    tasks.require_tracker(tracker)
    given = {
        "compare.backends": yaml_list(backends),
        "compare.devices": yaml_list(devices),
        "compare.batch_sizes": yaml_list(batch_sizes),
        "compare.rounds": rounds,
        "compare.budget_s": budget,
        "compare.repeat": repeat,
        "compare.loadgen.scenarios": yaml_list(scenario),
        "compare.loadgen.qps": qps,
        "compare.loadgen.duration_s": duration,
        "evaluate.protocol": protocol,
    }
    named = tuple(f"{key}={value}" for key, value in given.items() if value is not None)
    runs = tasks.choose_runs(names, paths)
    given_all = with_data((*overrides, *named), data)
    records = [tasks.compare(run, given_all, paths, ablation, fresh) for run in runs]
    output.print_report(records, as_json)
    tasks.track(tracker, runs, records, paths)
    output.print_written(runs, as_json)
    output.fail_loudly(records)


def _refuse_what_does_not_fit(
    scenario: str | None,
    qps: float | None,
    duration: float | None,
    rounds: int | None,
    budget: float | None,
) -> None:
    """Raise UsageError for options that would have no effect together, or that lack another."""
    scenarios = [name.strip() for name in (scenario or "").split(",") if name.strip()]
    if scenarios and (rounds or budget):
        raise click.UsageError(
            "--rounds and --budget are about the rounds, which --scenario replaces"
        )
    if duration and not scenarios:
        raise click.UsageError("--duration is the time of a scenario: name one with --scenario")
    if "server" in scenarios and qps is None:
        raise click.UsageError(
            "--scenario server needs --qps, the images that arrive per second, such as --qps 200"
        )
    if qps is not None and "server" not in scenarios:
        raise click.UsageError("--qps is about images that arrive: it needs --scenario server")

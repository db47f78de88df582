"""The command `bench capacity`: how many images a second are served within a bound of latency."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import fail_on_rows
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import (
    config_option,
    data_option,
    set_option,
    shared_options,
    subject_options,
    with_overrides,
)
from foldbench.bench.cli.runs import choose_subjects, subject_argument
from foldbench.bench.cli.values import CommaList, Moment, NamedPath

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


class _Percentile(click.ParamType):
    """``p99`` or ``99``, as a share."""

    name = "percentile"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            percent = float(str(value).lower().removeprefix("p"))
        except ValueError:
            percent = 0.0
        if not 50 <= percent <= 99.9:
            self.fail(f"{value!r}: write such as p99, from p50 to p99.9", param, ctx)
        return percent / 100


@command(
    examples=(
        "capacity digits-001 --backends torch,ort",
        "capacity digits-001 --within 50ms --at p95 --batch 8 --wait 5ms",
    ),
)
@subject_argument
@config_option(
    "compare.backends",
    "--backends",
    type=CommaList(),
    metavar="NAME[,NAME]...",
    help="Such as torch,ort.  [default: by config]",
)
@click.option("--within", type=Moment(), default="20ms", show_default=True, help="Latency allowed.")
@click.option("--at", type=_Percentile(), default="p99", show_default=True, help="Of so many.")
@click.option(
    "--batch",
    "most",
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    help="Most images of one call.",
)
@click.option(
    "--wait",
    type=Moment(),
    default="0",
    show_default=True,
    help="How long an image may wait for others to fill a batch.",
)
@click.option(
    "--arrivals",
    type=NamedPath(exists=True, dir_okay=False, path_type=Path),
    help="A file with a time in seconds on each line, stretched to each rate, in place of Poisson.",
)
@subject_options
@data_option
@set_option
@shared_options
@with_overrides
def capacity(
    names: tuple[str, ...],
    within: float,
    at: float,
    most: int,
    wait: float,
    arrivals: Path | None,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Find the highest rate of images that is answered in time.

    Images arrive at random times, whether or not the ones before are answered, and each latency
    counts from the moment that the image was due. The rate is searched until it is known to 5 %.
    The record is capacity.json in the run.
    """
    if not within:
        raise click.UsageError("--within 0: no answer is that fast; write such as --within 20ms")
    from foldbench.bench.measure.capacity import CapacityOptions
    from foldbench.bench.stages.capacity import measure_capacity, read_arrivals
    from foldbench.reports.formats.terminal import render_terminal
    from foldbench.reports.sections.capacity import build_capacity

    recorded = read_arrivals(arrivals, at) if arrivals else ()
    told = f"recorded, {arrivals.name}" if arrivals else "Poisson"
    options = CapacityOptions(within, at, most, wait, recorded_s=recorded, arrivals=told)
    with progress() as listener:
        runs, overrides = choose_subjects(names, overrides, paths, listener)
        found = [measure_capacity(run, overrides, options, paths, listener) for run in runs]
    if as_json:
        output.print_json({"capacities": [one.model_dump(mode="json") for one in found]})
    else:
        for run, one in zip(runs, found, strict=True):
            echo(render_terminal(build_capacity(one)))
            echo(f"written: {run.path / 'capacity.json'}")
    fail_on_rows([row for one in found for row in one.contenders])

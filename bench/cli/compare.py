"""The command `bench compare`: accuracy and latency of runs on every backend and device."""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.calling_options import calling_options
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.failures import fail_on_records
from foldbench.bench.cli.help import CONTENDERS, MEASUREMENT, command, section
from foldbench.bench.cli.options import (
    config_option,
    contender_options,
    data_option,
    given_fields,
    set_option,
    shared_options,
    subject_options,
    with_overrides,
)
from foldbench.bench.cli.runs import choose_subjects, subject_argument
from foldbench.bench.cli.tracker import track, tracker_option
from foldbench.bench.cli.values import CommaList, FiniteNumber, Seconds

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "compare --backends torch,ort --batch-sizes 1,64",
        "compare net.py:MyNet --weights my.pt --input 3x64x64 --data photos/val --budget 5m",
    ),
)
@subject_argument
@contender_options
@section(
    CONTENDERS,
    config_option(
        "compare.threads",
        "--threads",
        type=CommaList(),
        metavar="N[,N]...",
        help="Threads for one operator; several are rows each.  [default: all cores]",
    ),
    config_option(
        "compare.offline",
        "--offline",
        is_flag=True,
        flag_value=True,
        help="Fetch no other version of a runtime, such as ort@1.23.2.",
    ),
    config_option(
        "compare.reference",
        "--reference",
        metavar="[RUN:]BACKEND/VARIANT|RUN",
        help="What speed-ups are against, such as ort/folded.  [default: torch/unfolded]",
    ),
    click.option(
        "--ablation",
        "--ladder",
        "ablation",
        is_flag=True,
        help="Also benchmark each intermediate optimization step.",
    ),
)
@section(
    MEASUREMENT,
    config_option(
        "compare.rounds",
        "--rounds",
        type=click.IntRange(min=1),
        help="Undisturbed rounds for each batch size.  [default: by config]",
    ),
    config_option(
        "compare.budget_s",
        "--budget",
        type=Seconds(),
        help="Most time for the rounds of each device, such as 60s or 5m.  [default: by config]",
    ),
    config_option(
        "compare.repeat",
        "--repeat",
        type=click.IntRange(min=1),
        help="Repeat the whole comparison, minutes apart.",
    ),
    config_option(
        "evaluate.protocol",
        "--protocol",
        type=click.Choice(["homework", "clean"]),
        help="Accuracy on flipped and cropped test images, or on them as they are.",
    ),
    click.option(
        "--fresh", is_flag=True, help="Begin anew, even if an interrupted one could be resumed."
    ),
)
@section(
    "MLPerf scenarios",
    config_option(
        "compare.loadgen.scenarios",
        "--scenario",
        type=CommaList(),
        metavar="NAME[,NAME]...",
        help="Driven by LoadGen, not in rounds: singlestream, multistream, offline, server.",
    ),
    config_option(
        "compare.loadgen.qps",
        "--qps",
        type=FiniteNumber(min=0, min_open=True),
        metavar="NUMBER",
        help="Images that arrive per second (scenario server).",
    ),
    config_option(
        "compare.loadgen.duration_s",
        "--duration",
        type=Seconds(),
        help="Least time of a scenario.  [default: by config]",
    ),
)
@calling_options
@tracker_option
@subject_options
@data_option
@set_option
@shared_options
@with_overrides
@output.shown_options
def compare(
    names: tuple[str, ...],
    overrides: tuple[str, ...],
    ablation: bool,
    fresh: bool,
    tracker: str | None,
    paths: "Paths",
    shown: output.Shown,
) -> None:
    """Measure latency and accuracy on every backend and device.

    RUN is one that was trained or added; NETWORK is one of your own, such as net.py:MyNet,
    torchvision:resnet18 or model.onnx (see bench add). Several take turns in the same rounds.
    Without any, the newest run of each config is measured, one after the other. Interrupted and
    started again with the same settings, it resumes where it stopped. Exit code 1 when a row
    failed.
    """
    _refuse_what_does_not_fit(given_fields())
    from foldbench.bench.stages.compare import compare_runs

    command = ("bench", *sys.argv[1:])
    with progress(not shown.quiet) as listener:
        failed: dict[str, str] = {}
        runs, overrides = choose_subjects(names, overrides, paths, listener, not_exported=failed)
        began_s = time.monotonic()
        records = [
            record
            for group in ([runs] if names else [[run] for run in runs])
            for record in compare_runs(
                group, overrides, paths, listener, command, ablation, fresh, failed
            )
        ]
    output.print_report(records, shown, time.monotonic() - began_s)
    track(tracker, runs, records, paths)
    output.print_written(runs, shown)
    fail_on_records(records)


def _refuse_what_does_not_fit(given: Mapping[str, Any]) -> None:
    """Raise UsageError for options that would have no effect together, or that lack another."""
    listed = given.get("compare.loadgen.scenarios", "[]")[1:-1]
    scenarios = [name.strip() for name in listed.split(",") if name.strip()]
    has_rate = "compare.loadgen.qps" in given
    if scenarios and ("compare.rounds" in given or "compare.budget_s" in given):
        raise click.UsageError(
            "--rounds and --budget are about the rounds, which --scenario replaces"
        )
    if "compare.loadgen.duration_s" in given and not scenarios:
        raise click.UsageError("--duration is the time of a scenario: name one with --scenario")
    if "server" in scenarios and not has_rate:
        raise click.UsageError(
            "--scenario server needs --qps, the images that arrive per second, such as --qps 200"
        )
    if has_rate and "server" not in scenarios:
        raise click.UsageError("--qps is about images that arrive: it needs --scenario server")

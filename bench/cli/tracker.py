"""The option --tracker: where else compared runs are logged."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import OUTPUT, section

if TYPE_CHECKING:
    from foldbench.bench.records import Run
    from foldbench.bench.store.directory import Paths, RunDirectory


def _require_tracker(
    context: click.Context, parameter: click.Parameter, tracker: str | None
) -> str | None:
    """Return `tracker`; raise MissingPackageError when it is named and not installed."""
    if tracker is not None:
        from foldbench.bench.stages.track import require_mlflow

        require_mlflow()
    return tracker


tracker_option = section(
    OUTPUT,
    click.option(
        "--tracker",
        type=click.Choice(["mlflow"]),
        callback=_require_tracker,
        help="Also log each run there: to MLFLOW_TRACKING_URI, or mlflow.db in the runs' folder.",
    ),
)


def track(
    tracker: str | None,
    runs: Sequence["RunDirectory"],
    records: Sequence["Run"],
    paths: "Paths",
) -> None:
    """Log each record to `tracker`, if one is named, with the files of its run; say where."""
    if tracker is None:
        return
    from foldbench.bench.stages.track import log_run

    for run, record in zip(runs, records, strict=True):
        address = log_run(record, run.path, paths.runs)
        echo(f"logged: {record.name} to {tracker} at {address}", err=True)

"""The stages with their progress shown on the terminal."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from foldbench.bench.cli.echo import echo

if TYPE_CHECKING:
    from foldbench.bench.predict.image_model import ImageModel
    from foldbench.bench.records import Artifact, Profile, Run
    from foldbench.bench.stages.train import Paths
    from foldbench.bench.store.directory import RunDirectory


def train(name: str, overrides: Sequence[str], fresh: bool, paths: "Paths") -> "RunDirectory":
    """Train config `name` with `overrides`; return its run.

    Of several processes, the first one alone shows how it goes.
    """
    from foldbench.bench import torchrun
    from foldbench.bench.cli.console import listening
    from foldbench.bench.config.files import load
    from foldbench.bench.progress import NullListener
    from foldbench.bench.stages import train as stages

    loaded = load(name, overrides)
    with listening() if torchrun.rank() == 0 else nullcontext(NullListener()) as listener:
        return stages.train(loaded, paths, listener, fresh)


def require_packages(name: str, overrides: Sequence[str]) -> None:
    """Raise MissingPackageError for what comparing config `name` needs and is not installed."""
    from foldbench.bench.config.files import load
    from foldbench.bench.timing.scenarios import require_loadgen

    if load(name, overrides).config.compare.loadgen.scenarios:
        require_loadgen()


def export(run: "RunDirectory", overrides: Sequence[str], paths: "Paths") -> "Artifact":
    """Export one run."""
    from foldbench.bench.cli.console import listening
    from foldbench.bench.stages import export as stages_export

    with listening() as listener:
        return stages_export.export(run, overrides, paths, listener)


def put_preprocessing_inside(
    run: "RunDirectory", artifact: "Artifact", overrides: Sequence[str], paths: "Paths"
) -> "ImageModel":
    """Write one exported network with its preprocessing inside the file."""
    from foldbench.bench.cli.console import listening
    from foldbench.bench.stages import export as stages_export

    with listening() as listener:
        return stages_export.put_preprocessing_inside(run, artifact, overrides, paths, listener)


def compare(
    run: "RunDirectory",
    overrides: Sequence[str],
    paths: "Paths",
    ablation: bool = False,
    fresh: bool = False,
) -> "Run":
    """Compare one run; its record holds the command line as it was given."""
    from foldbench.bench.cli.console import listening
    from foldbench.bench.stages import train as stages

    command = ("bench", *sys.argv[1:])
    with listening() as listener:
        return stages.compare_run(run, overrides, paths, listener, command, ablation, fresh)


def profile(run: "RunDirectory", overrides: Sequence[str], paths: "Paths") -> "Profile":
    """Profile one run."""
    from foldbench.bench.cli.console import listening
    from foldbench.bench.stages.profile import profile_run

    with listening() as listener:
        return profile_run(run, overrides, paths, listener)


def require_tracker(tracker: str | None) -> None:
    """Raise MissingPackageError when `tracker` is named and not installed."""
    if tracker is not None:
        from foldbench.bench.stages.track import require_mlflow

        require_mlflow()


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


def choose_runs(
    names: Sequence[str], paths: "Paths", compared: bool = False
) -> tuple["RunDirectory", ...]:
    """Return the runs to work on; say which ones when they were not named."""
    from foldbench.bench.store.finding import find_runs, newest_runs

    runs = find_runs(paths.runs, names) if names else newest_runs(paths.runs, compared)
    if not names:
        echo(f"newest run of each config: {', '.join(run.name for run in runs)}", err=True)
    return runs

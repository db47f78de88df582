"""The command `bench plot`: pictures of what a run has learned, and how."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import stored_options
from foldbench.bench.cli.runs import choose_runs, run_argument
from foldbench.bench.cli.values import NamedPath

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "plot digits-001 filters --output filters.png",
        "plot digits-001 digits-002 compare",
    ),
)
@run_argument
@click.argument("kind", type=click.Choice(["filters", "loss", "compare"]))
@click.option(
    "--output",
    "-o",
    "target",
    type=NamedPath(dir_okay=False, path_type=Path),
    help="The picture's file, .png or .svg.  [default: in the run, or the folder of the runs]",
)
@stored_options
def plot(
    names: tuple[str, ...],
    kind: Literal["filters", "loss", "compare"],
    target: Path | None,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Draw first-layer filters or loss curves.

    filters and loss are one picture for each RUN; compare is all loss curves together. The
    homework's published losses are drawn in where the images are CIFAR-10. Without RUN, the newest
    run of each config is taken.
    """
    from foldbench.bench.stages.plot import plot_comparison, plot_run

    runs = choose_runs([_run_of(name, paths) for name in names], paths)
    if kind == "compare":
        written = [plot_comparison(runs, target or paths.runs / "loss-compare.png")]
    elif target is not None and len(runs) > 1:
        raise click.UsageError(f"--output names one file, but there are {len(runs)} runs: name one")
    else:
        written = [plot_run(run, kind, target) for run in runs]
    if as_json:
        output.print_json({"written": [str(path) for path in written]})
        return
    for path in written:
        echo(f"written: {path}")


def _run_of(name: str, paths: "Paths") -> str:
    """Return the run of ``RUN@2``: what is plotted is the same for all comparisons of a run."""
    from foldbench.bench.store.finding import find_run

    return str(find_run(paths.runs, name)[0].path)

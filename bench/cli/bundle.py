"""The command `bench bundle`: one file that measures a run's networks on another machine."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import OUTPUT, command, section
from foldbench.bench.cli.options import data_option, set_option, shared_options, with_overrides
from foldbench.bench.cli.values import NamedPath

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "bundle digits-001",
        "bundle digits-001 --for cpu,cuda --output digits.pyz",
    ),
)
@click.argument("name", metavar="RUN")
@click.option(
    "--for",
    "devices",
    type=click.Choice(["cpu", "cuda", "cpu,cuda"]),
    default="cpu",
    show_default=True,
    help="Where the files are to run.",
)
@section(
    OUTPUT,
    click.option(
        "-o",
        "--output",
        "target",
        type=NamedPath(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write there.  [default: RUN.pyz]",
    ),
)
@data_option
@set_option
@shared_options
@with_overrides
def bundle(
    name: str,
    devices: str,
    target: Path | None,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Write one file that measures a run's networks elsewhere.

    python3 RUN.pyz runs where there are numpy and onnxruntime, and no foldbench: it checks itself,
    verifies the answers, times in the same rounds, and with --output writes a record that bench
    report takes beside others.
    """
    import json

    from foldbench.bench.stages.bundle import bundle_run
    from foldbench.bench.store.finding import find_runs

    (run,) = find_runs(paths.runs, [name])
    with progress() as listener:
        made = bundle_run(
            run,
            [device for device in ("cpu", "cuda") if device in devices.split(",")],
            target or Path(f"{run.name}.pyz"),
            overrides,
            paths,
            listener,
        )
    for reason in made.left_out:
        echo(f"skipped: {reason}", err=True)
    if as_json:
        rows, lost = list(made.rows), list(made.left_out)
        text = {"path": str(made.path), "rows": rows, "left_out": lost, "images": made.images}
        click.echo(json.dumps(text))
        return
    echo(f"{made.path}: {len(made.rows)} rows, {made.images} images; python3 {made.path.name}")

"""The command `bench tune`: a search for learning rate, batch size and epochs."""

from collections.abc import Callable
from functools import wraps
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import (
    Command,
    data_option,
    set_option,
    shared_options,
    with_overrides,
)
from foldbench.bench.cli.values import NamedPath

if TYPE_CHECKING:
    from foldbench.bench.stages.tune import SearchOptions
    from foldbench.bench.store.directory import Paths


class _Numbers(click.ParamType):
    """Numbers with commas between them, such as ``32,64``."""

    name = "numbers"

    def __init__(self, kind: Callable[[str], Any], exactly: int | None = None) -> None:
        self._kind = kind
        self._exactly = exactly

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self._kind(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: give numbers with commas between them", param, ctx)
        if self._exactly and (len(numbers) != self._exactly or numbers[0] > numbers[1]):
            self.fail(f"{value!r}: give the smallest and the largest, such as 1,2", param, ctx)
        if not all(0 < number < inf for number in numbers):
            self.fail(f"{value!r}: give finite numbers above 0", param, ctx)
        if self._exactly is None and len(set(numbers)) < len(numbers):
            self.fail(f"{value!r}: give each number once", param, ctx)
        return numbers


def _search_options(command: Command) -> Command:
    """Add the options of a search; hand the command `options`."""

    @click.option(
        "--preset",
        type=click.Choice(["homework"]),
        help="Train the rows of the homework's own tuning, and choose by training loss as it did.",
    )
    @click.option(
        "--trials",
        type=click.IntRange(min=1),
        default=30,
        show_default=True,
        help="In all, with those made before and by other processes.",
    )
    @click.option(
        "--images",
        type=click.IntRange(min=2),
        default=1000,
        show_default=True,
        help="Training images of each trial.",
    )
    @click.option(
        "--validation",
        "validation_images",
        type=click.IntRange(min=1),
        default=2000,
        show_default=True,
        help="Other training images, to choose by.",
    )
    @click.option(
        "--learning-rates",
        type=_Numbers(float, 2),
        default="0.0001,0.03",
        show_default=True,
        metavar="LOW,HIGH",
    )
    @click.option(
        "--batch-sizes",
        type=_Numbers(int),
        default="32,64,128,256",
        show_default=True,
        metavar="N[,N]...",
    )
    @click.option(
        "--epochs", type=_Numbers(int, 2), default="10,30", show_default=True, metavar="LOW,HIGH"
    )
    @click.option(
        "--storage",
        metavar="FILE|URL",
        help="Journal file or database that keeps the trials.  [default: in the runs folder]",
    )
    @wraps(command)
    def wrapped(
        learning_rates: tuple[float, float],
        batch_sizes: tuple[int, ...],
        epochs: tuple[int, int],
        **given: Any,
    ) -> None:
        from foldbench.bench.stages.tune import SearchOptions
        from foldbench.bench.store.study import Space

        fields = ("preset", "trials", "images", "validation_images", "storage")
        search = {name: given.pop(name) for name in fields}
        space = Space(learning_rates, batch_sizes, epochs)
        command(options=SearchOptions(space=space, **search), **given)

    return wrapped


@command(
    examples=(
        "tune digits --trials 20",
        "tune deep_mish --data cifar10-images.tar.xz --write tuned.yaml",
    ),
)
@click.argument("name")
@_search_options
@click.option(
    "--write",
    "target",
    type=NamedPath(dir_okay=False, path_type=Path),
    metavar="CONFIG.yaml",
    help="Write the choice as a new config.",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many to list."
)
@data_option
@set_option
@shared_options
@with_overrides
def tune(
    name: str,
    options: "SearchOptions",
    target: Path | None,
    top: int,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Search learning rate, batch size and epochs of a config.

    Started again it resumes; started several times at once, the processes share the trials. The
    test split is not touched: trials are judged by other training images, and those that fall
    behind are ended early. --preset homework trains the homework's own rows to the end and puts its
    losses beside ours.
    """
    from foldbench.bench.config.files import load
    from foldbench.bench.config.writing import refuse_target, write_choice
    from foldbench.bench.stages.tune import search
    from foldbench.reports.commands.tune import build_search
    from foldbench.reports.formats.terminal import render_terminal

    if target is not None:
        refuse_target(target)
    loaded = load(name, overrides)
    with progress() as listener:
        found = search(loaded, options, paths, listener)
    if as_json:
        output.print_json(found.model_dump(mode="json"))
    else:
        echo(render_terminal(build_search(found, top)), nl=False)
    winner = found.winner()
    if target is not None:
        if winner is None:
            raise click.ClickException(f"{target} is not written: no trial was finished")
        write_choice(target, name, loaded, winner.choice)
        echo(f"written: {target}", err=as_json)

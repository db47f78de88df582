"""The command `bench add`: a network that was trained elsewhere becomes a run."""

from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import (
    data_option,
    set_option,
    shared_options,
    subject_options,
    with_overrides,
)

if TYPE_CHECKING:
    from foldbench.bench.config.files import Loaded
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "add my_net net.py:MyNet --weights my.pt --classes classes.txt --input 3x64x64",
        "add resnet torchvision:resnet18 --weights default --download",
    ),
)
@click.argument("name")
@click.argument("network")
@subject_options
@data_option
@set_option
@click.option("--fresh", is_flag=True, help="Add it anew even if it has been added.")
@shared_options
@with_overrides
def add(
    name: str,
    network: str,
    overrides: tuple[str, ...],
    fresh: bool,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Add a network that was trained elsewhere as a run.

    NETWORK is FILE.py:NAME, PACKAGE.MODULE:NAME, torchvision:NAME, timm:NAME, FILE.onnx, FILE.pt2,
    or a FILE.yaml with model.from. Afterwards: bench export NAME, bench compare NAME.
    """
    from foldbench.bench.stages import add as stage
    from foldbench.bench.user_code.source import is_source

    loaded = _load(network, overrides, name)
    if is_source(name) or "/" in name or name[:1] in ("", ".") or not name.isprintable():
        raise click.UsageError(f"NAME: found {name!r}; allowed: a name for the run, such as my_net")
    with progress() as listener:
        run = stage.add(loaded, paths, listener, fresh)
    output.print_added(run, as_json)


def _load(network: str, overrides: tuple[str, ...], name: str) -> "Loaded":
    """Return the configuration of a network; raise UsageError for a text that names none."""
    from foldbench.bench.config.files import Loaded, load
    from foldbench.bench.config.own_network import source_config
    from foldbench.bench.user_code.source import is_source, parse_source

    if network.endswith((".yaml", ".yml")):
        config = load(network, overrides).config
        if config.model.source is None:
            raise click.UsageError(
                f"NETWORK: {network} has no model.from: bench train {network} trains its network"
            )
        return Loaded(name, config)
    if not is_source(network):
        try:
            parse_source(network)
        except ValueError as error:
            raise click.UsageError(f"NETWORK: {error}") from None
    return source_config(network, overrides, name)

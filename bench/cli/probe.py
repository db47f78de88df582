"""The command `bench probe`: protocols of transfer learning, and what BatchNorm does to them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.options import (
    data_option,
    network_options,
    set_option,
    shared_options,
    with_weights,
)

if TYPE_CHECKING:
    from foldbench.bench.stages.train import Paths


@click.command()
@click.argument("names", metavar="CONFIG...", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "md"]),
    default="terminal",
    show_default=True,
)
@data_option
@network_options
@set_option
@shared_options
def probe(
    names: tuple[str, ...],
    form: str,
    data: Path | None,
    weights: str | None,
    download: bool,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Fit linear classifiers to frozen features as each CONFIG says, and in other ways.

    Each configuration (resnet50_pets, swin_t_pets_homework, ...) is taken with BatchNorm in eval
    and in train mode, and with both classifiers, all else equal. No run is written.
    """
    from foldbench.bench.cli.console import listening
    from foldbench.bench.config.files import load
    from foldbench.bench.stages.probe import batchnorm_effects
    from foldbench.bench.stages.probe import probe as probe_config
    from foldbench.reports.commands import probe as text

    given = with_weights(overrides, data, weights, download)
    loaded = [load(name, given) for name in names]
    with listening() as listener:
        probes = [p for one in loaded for p in probe_config(one, paths.cache, listener)]
    effects = batchnorm_effects(probes)
    if as_json:
        output.print_json(text.probes_json(probes, effects))
    else:
        echo(text.render_probes(probes, effects, markdown=form == "md"), nl=False)

"""The command `bench probe`: protocols of transfer learning, and what BatchNorm does to them."""

from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import (
    data_option,
    form_option,
    set_option,
    shared_options,
    transfer_options,
    with_overrides,
)

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "probe resnet50_pets --data pets.tar",
        "probe resnet50_pets resnet50_pets_homework --data pets.tar --format md",
    ),
)
@click.argument("names", metavar="CONFIG...", nargs=-1, required=True)
@form_option("terminal", "md")
@data_option
@transfer_options
@set_option
@shared_options
@with_overrides
def probe(
    names: tuple[str, ...],
    form: str,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Fit linear classifiers to frozen features, in several ways.

    Each CONFIG (resnet50_pets, swin_t_pets_homework, ...) is taken with BatchNorm in eval
    and in train mode, and with both classifiers, all else equal. No run is written.
    """
    from foldbench.bench.analysis.probes import batchnorm_effects
    from foldbench.bench.config.files import load
    from foldbench.bench.stages.probe import probe as probe_config
    from foldbench.reports.commands import probe as text

    loaded = [load(name, overrides) for name in names]
    with progress() as listener:
        probes = [p for one in loaded for p in probe_config(one, paths.cache, listener)]
    effects = batchnorm_effects(probes)
    if as_json:
        output.print_json(text.probes_json(probes, effects))
    else:
        echo(text.render_probes(probes, effects, markdown=form == "md"), nl=False)

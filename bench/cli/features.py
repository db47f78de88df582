"""The command `bench features`: what the layers of a network make of an image."""

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import network_options, shared_options
from foldbench.bench.cli.values import NamedPath

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "features resnet50 photo.jpg --weights default --download",
        "features resnet50_pets photo.jpg --layers early,middle --maps 8",
    ),
)
@click.argument("model")
@click.argument("image", type=Path)
@click.option(
    "--layers",
    default="early,middle,late",
    show_default=True,
    metavar="NAME[,NAME]...",
    help="Names of modules, or early, middle, late.",
)
@click.option(
    "--maps",
    type=click.IntRange(min=1, max=64),
    default=5,
    show_default=True,
    help="How many maps of each layer, from the first.",
)
@click.option(
    "--out",
    type=NamedPath(file_okay=False, path_type=Path),
    help="Folder for the pictures.  [default: features in the run, for its report, or here]",
)
@network_options
@shared_options
def features(
    model: str,
    image: Path,
    layers: str,
    maps: int,
    out: Path | None,
    weights: str | None,
    download: bool,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Draw the feature maps of an image, one PNG for each layer.

    MODEL is a run, or a network of torchvision or timm, see bench predict. The maps of a layer
    share one scale of grey. early, middle and late are the last layers of a quarter, half and three
    quarters of the network's stages: layer1, layer2 and layer3 of ResNet-50, as in the homework.
    """
    from foldbench.bench.images.preprocessing import preprocess
    from foldbench.bench.predict.feature_maps import collect_maps
    from foldbench.bench.predict.networks import open_network
    from foldbench.bench.predict.picture import fit_picture, open_picture
    from foldbench.bench.store.files import write_with
    from foldbench.reports.pictures.feature_maps import draw_feature_maps

    network = open_network(model, weights, download, paths.runs)
    pixels = fit_picture(open_picture(image), network.preprocessing, str(image))
    x = preprocess(pixels, network.preprocessing)
    folder = out or (network.run.path / "features" if network.run else Path())
    asked = list(dict.fromkeys(layer.strip() for layer in layers.split(",")))
    written = []
    module = getattr(network.module, "backbone", network.module)
    for found in collect_maps(module, x, asked):
        count, height, width = found.maps.shape
        label = f"{found.place}, {found.layer}" if found.place else found.layer
        title = f"{network.name}, {label}: {min(maps, count)} of {count} maps, {height}x{width}"
        picture = draw_feature_maps(found.maps[:maps], title)
        path = folder / f"{image.stem}.{re.sub(r'[^A-Za-z0-9_.-]', '_', found.layer)}.png"
        write_with(path, partial(picture.save, format="PNG"))
        written.append({"layer": found.layer, "place": found.place, "path": str(path)})
        if not as_json:
            echo(f"{path}  {title}")
    if as_json:
        output.print_json({"network": network.name, "image": str(image), "layers": written})

"""The command `bench predict`: what a network says about images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.failures import fail_on_answers
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import network_options, shared_options

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "predict resnet50 photo.jpg --weights IMAGENET1K_V1 --download",
        "predict digits-001 a.png b.png --top 5",
    ),
)
@click.argument("model")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=Path)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many classes to name.",
)
@network_options
@shared_options
def predict(
    model: str,
    images: tuple[Path, ...],
    top: int,
    weights: str | None,
    download: bool,
    paths: "Paths",
    as_json: bool,
) -> None:
    """Classify images: class names and probabilities.

    MODEL is a run (or a config's newest run), or a network of torchvision or timm: resnet50,
    torchvision:swin_t, timm:tf_efficientnet_lite0. Images are prepared as the weights were
    evaluated. A run that was exported answers in onnxruntime, too. Exit code 1 when an image or a
    backend failed.
    """
    from foldbench.bench.predict.networks import open_network
    from foldbench.bench.predict.prediction import predict as predict_images
    from foldbench.reports.commands.predict import answers_json, render_answer, render_network

    network = open_network(model, weights, download, paths.runs)
    answers = []
    if not as_json:
        echo(render_network(network), nl=False)
    for answer in predict_images(network, images, top):
        answers.append(answer)
        if not as_json:
            echo(render_answer(answer), nl=False)
    if as_json:
        output.print_json(answers_json(network, answers))
    fail_on_answers(answers)

"""The command `bench predict`: what a network says about images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.options import network_options, shared_options

if TYPE_CHECKING:
    from foldbench.bench.predict.networks import LoadedNetwork
    from foldbench.bench.predict.prediction import Answer
    from foldbench.bench.stages.train import Paths


@click.command()
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
    """Say what MODEL sees in each IMAGE: class names and probabilities.

    MODEL is a run (or a config's newest run), or a network of torchvision or timm: resnet50,
    torchvision:swin_t, timm:tf_efficientnet_lite0. Images are prepared as the weights were
    evaluated. A run that was exported answers in onnxruntime, too. Exit code 1 when an image or a
    backend failed.
    """
    from foldbench.bench.predict.networks import open_network
    from foldbench.bench.predict.prediction import predict as predict_images

    network = open_network(model, weights, download, paths.runs)
    answers = []
    if not as_json:
        echo(f"{network.name} ({network.weights}); images: {_describe(network)}")
    for answer in predict_images(network, images, top):
        answers.append(answer)
        if not as_json:
            _print_answer(answer)
    if as_json:
        output.print_json(_to_json(network, answers))
    failed = sum(bool(a.reason or any(p.reason for p in a.predictions)) for a in answers)
    if failed:
        raise click.ClickException(f"{failed} of {len(answers)} images have no full answer (above)")


def _describe(network: "LoadedNetwork") -> str:
    preprocessing = network.preprocessing
    size, resize = preprocessing.input_shape[-1], preprocessing.resize
    if resize.stretch:
        return f"stretched to {size}x{size}, {resize.interpolation}"
    if resize.shorter_side is None:
        return f"scaled to cover {size}x{size}, {resize.interpolation}"
    return f"shorter side {resize.shorter_side}, centre {size}x{size}, {resize.interpolation}"


def _print_answer(answer: "Answer") -> None:
    echo(f"{answer.image}")
    if answer.reason:
        echo(f"  not read: {answer.reason}")
    for prediction in answer.predictions:
        if prediction.reason:
            echo(f"  {prediction.backend}: did not run: {prediction.reason}")
            continue
        echo(f"  {prediction.backend}")
        for one in prediction.ranked:
            echo(f"    {one.probability:.6f}  {one.class_name}")
    if answer.max_difference is not None:
        echo(f"  largest difference of a probability: {answer.max_difference:.1e}")


def _to_json(network: "LoadedNetwork", answers: "list[Answer]") -> dict[str, Any]:
    return {
        "network": network.name,
        "weights": network.weights,
        "preprocessing": network.preprocessing.model_dump(mode="json"),
        "images": [
            {
                "image": str(answer.image),
                "reason": answer.reason,
                "max_difference": answer.max_difference,
                "predictions": [
                    {
                        "backend": prediction.backend,
                        "reason": prediction.reason,
                        "top": [
                            {"class": one.class_name, "probability": one.probability}
                            for one in prediction.ranked
                        ],
                    }
                    for prediction in answer.predictions
                ],
            }
            for answer in answers
        ],
    }

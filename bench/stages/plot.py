"""Plot a run: pictures of what a run has learned, and how."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy.typing as npt

from foldbench.bench.errors import CheckpointError
from foldbench.bench.measure.contenders import is_file_alone
from foldbench.bench.store.directory import RunDirectory
from foldbench.reports.pictures.plots import (
    curve_of,
    draw_comparison,
    draw_filters,
    draw_losses,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PlotKind = Literal["filters", "loss"]


def plot_run(run: RunDirectory, kind: PlotKind, output: Path | None) -> Path:
    """Draw the first layer's filters or the loss of a run; return the path of the picture.

    It goes to `output`, or beside the run's records. Raises RunError when the run is not trained to
    its end, CheckpointError when the network begins with no convolution of colour images.
    """
    checkpoint = run.checkpoint()
    if kind == "loss" and not checkpoint.history:
        raise CheckpointError(f"run {run.name}: was not trained here, so it has no losses to draw")
    figure = (
        _draw_first_layer(run)
        if kind == "filters"
        else draw_losses(curve_of(checkpoint, checkpoint.model))
    )
    path = output or run.path / f"{kind}.png"
    save_figure(figure, path)
    return path


def plot_comparison(runs: Sequence[RunDirectory], output: Path) -> Path:
    """Draw the loss curves of several runs, each alone and all together; return `output`."""
    models = [run.checkpoint().model for run in runs]
    unique = len(set(models)) == len(models)
    labels = models if unique else [run.name for run in runs]
    curves = [curve_of(run.checkpoint(), label) for run, label in zip(runs, labels, strict=True)]
    save_figure(draw_comparison(curves), output)
    return output


def _draw_first_layer(run: RunDirectory) -> "Figure":
    from foldbench.exporters.explaining import first_convolution

    checkpoint = run.checkpoint()
    alone = is_file_alone(checkpoint)
    found = first_convolution(run.path / checkpoint.weights) if alone else _first_layer(run)
    if found is None or found[1].ndim != 4 or found[1].shape[1] != 3:
        raise CheckpointError(
            f"run {run.name}: model {checkpoint.network!r} does not begin with a convolution of "
            "three colours: there are no filters to show as pictures"
        )
    name, weights = found
    count, _, height, width = weights.shape
    title = f"{checkpoint.network}, {name}: {count} filters of {height} × {width}"
    return draw_filters(weights, title)


def _first_layer(run: RunDirectory) -> "tuple[str, npt.NDArray] | None":
    from torch import nn

    from foldbench.models.building.checkpoint import load_checkpoint

    model = load_checkpoint(run.checkpoint(), run.path)
    named = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    name, layer = next(named, ("", None))
    return None if layer is None else (name, layer.weight.detach().numpy())

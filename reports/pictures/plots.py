"""Pictures of a training: first-layer filters and loss curves, as matplotlib figures.

Colours are those of M. Okabe and K. Ito (Color universal design, 2008), which colour-blind readers
tell apart; lines differ in style as well. matplotlib is imported when something is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from foldbench.bench import units
from foldbench.bench.errors import ConfigError
from foldbench.bench.records import Checkpoint
from foldbench.bench.store.files import write_with
from foldbench.reports.rows.homework import reference_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
SUFFIXES = (".png", ".svg")
_COLUMNS = 8


@dataclass(frozen=True)
class Curve:
    """One training's loss, and the homework's where it may stand beside it."""

    label: str
    losses: tuple[float, ...]
    """Mean training loss of each epoch, from the first."""
    homework: tuple[float, ...]
    """Empty where there is none."""


def curve_of(checkpoint: Checkpoint, label: str) -> Curve:
    """Return the loss curve of a training; label smoothing, which raises a loss, is in its name."""
    smoothing = checkpoint.config.get("train", {}).get("label_smoothing", 0)
    reference = reference_for(checkpoint)
    return Curve(
        label=f"{label} (label smoothing {units.plain(smoothing)})" if smoothing else label,
        losses=tuple(epoch.loss for epoch in checkpoint.history),
        homework=reference.losses if reference else (),
    )


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of `width` by `height` inches that needs no screen."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_filters(filters: npt.NDArray[np.floating[Any]], title: str) -> "Figure":
    """Return a grid of the filters (F, 3, H, W) of a first layer as colour pictures.

    The smallest weight of the layer is black and the largest one white, in each colour channel.
    """
    count = len(filters)
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    low, high = float(filters.min()), float(filters.max())
    pictures = (filters - low) / (high - low if high > low else 1.0)
    figure = new_figure(1.1 * columns + 0.2, 1.25 * rows + 0.7)
    for index, (axes, picture) in enumerate(
        zip(figure.subplots(rows, columns, squeeze=False).flat, pictures, strict=False)
    ):
        axes.imshow(picture.transpose(1, 2, 0), interpolation="nearest")
        axes.set_title(str(index + 1), fontsize=8, pad=2)
    for axes in figure.axes:
        axes.set_axis_off()
    figure.suptitle(
        f"{title}\nweights from {units.ratio(low)} (black) to {units.ratio(high)} (white)",
        fontsize=10,
    )
    return figure


def draw_losses(curve: Curve) -> "Figure":
    """Return one training's loss curve, with the homework's where there is one."""
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    _draw(axes, [(curve, 0)], f"Training loss of {curve.label}")
    axes.set(xlim=(0, None), ylim=(0, None))
    return figure


def draw_comparison(curves: Sequence[Curve]) -> "Figure":
    """Return the loss curves of several trainings, each alone and at the end all together."""
    places = len(curves) + 1 if len(curves) > 1 else 1
    columns = min(2, places)
    rows = -(-places // columns)
    figure = new_figure(5.6 * columns, 3.8 * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    numbered = [(curve, number) for number, curve in enumerate(curves)]
    if len(numbered) > 1:
        for axes, (curve, number) in zip(panels, numbered, strict=False):
            _draw(axes, [(curve, number)], curve.label)
    _draw(panels[places - 1], numbered, "Together" if places > 1 else numbered[0][0].label)
    for axes in panels[places:]:
        axes.set_axis_off()
    panels[0].set(xlim=(0, None), ylim=(0, None))  # shared, so for all, once all is drawn
    figure.suptitle("Training loss, epoch by epoch", fontsize=12)
    return figure


def _draw(axes: "Axes", curves: Sequence[tuple[Curve, int]], title: str) -> None:
    """Draw the curves with the colours of their numbers: ours solid, the homework's dashed."""
    from matplotlib.ticker import MaxNLocator

    for curve, number in curves:
        colour = PALETTE[number % len(PALETTE)]
        marker = MARKERS[number % len(MARKERS)]
        epochs = range(1, len(curve.losses) + 1)
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.5}
        axes.plot(epochs, curve.losses, label=curve.label, linewidth=1.6, **style)
        if curve.homework:
            theirs = {**style, "markerfacecolor": "white", "linestyle": (0, (4, 2))}
            label = "homework" if len(curves) == 1 else f"homework, {curve.label}"
            epochs = range(1, len(curve.homework) + 1)
            axes.plot(epochs, curve.homework, label=label, linewidth=1.0, **theirs)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean cross-entropy (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_tick_params(labelbottom=True)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def save_figure(figure: "Figure", path: Path) -> None:
    """Write the figure to `path`, atomically; the same figure gives the same bytes.

    Raises ConfigError for another suffix than SUFFIXES, RunError when it cannot be written.
    """
    import matplotlib

    form = path.suffix.lower()
    if form not in SUFFIXES:
        raise ConfigError(
            f"{path}: found the suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}"
        )
    options: dict[str, Any] = {"format": form[1:], "dpi": 150}
    if form == ".svg":
        options["metadata"] = {"Date": None}
    with matplotlib.rc_context({"svg.hashsalt": "foldbench"}):
        write_with(path, lambda temporary: figure.savefig(temporary, **options))

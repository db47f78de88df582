"""What do normalisations do at small batches? Problems 1 and 6 of the homework, with figures.

    python -m benchmarks.normalisation_study --data cifar10-images.tar.xz --out benchmarks/results

Trains one network with each normalisation at several batch sizes on the same few images, the same
number of times each, and scores it on test images as they are. Every training that has ended is in
the JSON file: started again, the study goes on. It also takes away the biases before a
normalisation and looks at what changes (problem 6). About half an hour on two cores.
"""

import copy
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn

from foldbench.bench.cli.options import data_option, set_option, shared_options, with_overrides
from foldbench.bench.config.files import Loaded, load
from foldbench.bench.config.training import TrainSection
from foldbench.bench.images.image_set import ImageSet, Split
from foldbench.bench.images.loading import load_data
from foldbench.bench.images.splits import draw_subset, spread
from foldbench.bench.machine.environment import describe_environment, usable_cores
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Epoch
from foldbench.bench.store.directory import Paths
from foldbench.bench.store.files import write_text
from foldbench.models.building.network import build_model
from foldbench.models.building.norms import KINDS
from foldbench.models.training.augment import normalise
from foldbench.models.training.loop import train_model
from foldbench.models.transfer.fit import preprocessing_of
from foldbench.reports.pictures.plots import MARKERS, PALETTE, new_figure, save_figure

RATE_BATCH_SIZE = 128
"""At which the configuration's learning rate is right."""


@dataclass(frozen=True)
class Plan:
    """What is trained."""

    norms: tuple[str, ...] = KINDS
    batch_sizes: tuple[int, ...] = (2, 8, 32, 128)
    seeds: int = 3
    images: int = 4000
    epochs: int = 5
    test_images: int = 5000


QUICK = Plan(("batch", "group"), (2, 32), 1, 64, 1, 50)


@dataclass(frozen=True)
class Cell:
    """One training and what it came to."""

    norm: str
    batch_size: int
    seed: int
    train_loss: float
    """Mean over the images of the last epoch."""
    loss: float
    accuracy: float
    """On test images, with the network in eval mode."""
    batch_accuracy: float
    """The same in train mode, in batches of the size that it was trained with: BatchNorm then
    normalises by each batch's own statistics instead of the running ones."""


@dataclass(frozen=True)
class BiasFinding:
    """What taking away the biases before a normalisation changes (problem 6), in float64."""

    norm: str
    parameters: int
    parameters_without: int
    output_difference: float
    """Largest difference of two outputs in train mode, relative to the largest output."""
    gradient_difference: float
    """Largest difference of two gradients of any other parameter, relative to the largest one."""
    bias_gradient: float
    """Largest gradient of a bias that was taken away, relative to the same."""


def rate_for(rate: float, batch_size: int) -> float:
    """Return the learning rate for a batch size: it grows with the square root for Adam.

    S. Malladi et al., On the SDEs and scaling rules for adaptive gradient algorithms, 2022.
    """
    return rate * (batch_size / RATE_BATCH_SIZE) ** 0.5


def train_cell(
    loaded: Loaded, data: ImageSet, plan: Plan, norm: str, batch_size: int, seed: int
) -> Cell:
    """Train with one normalisation at one batch size, and score the network."""
    config = loaded.config
    settings = TrainSection.model_validate(
        config.train.model_dump()
        | {
            "protocol": "clean",
            "epochs": plan.epochs,
            "batch_size": batch_size,
            "learning_rate": rate_for(config.train.learning_rate, batch_size),
            "schedule": {"name": "one_cycle"},
        }
    )
    model, history = train_fresh(
        loaded,
        {**config.model.args, "norm": norm},
        settings,
        draw_subset(data.train, plan.images, seed),
        len(data.info.classes),
        seed,
    )
    inputs, labels = as_inputs(loaded, draw_test(data.test, plan.test_images))
    loss, accuracy = score(model.eval(), inputs, labels, 500)
    # A copy, since a pass in train mode moves the running statistics.
    _, batch_accuracy = score(copy.deepcopy(model).train(), inputs, labels, batch_size)
    return Cell(norm, batch_size, seed, history[-1].loss, loss, accuracy, batch_accuracy)


def train_fresh(
    loaded: Loaded,
    args: Mapping[str, Any],
    settings: TrainSection,
    train: Split,
    classes: int,
    seed: int,
) -> tuple[nn.Module, tuple[Epoch, ...]]:
    """Train the configuration's network from fresh weights, in silence and without a checkpoint."""
    preprocessing = preprocessing_of(loaded.config)
    torch.manual_seed(seed)
    model = build_model(loaded.config.model.name, args, classes, preprocessing.input_shape)
    history = train_model(
        model,
        train,
        None,
        settings=settings,
        preprocessing=preprocessing,
        seed=seed,
        resume=None,
        listener=NullListener(),
    )
    return model, history


def draw_test(test: Split, count: int) -> Split:
    """Return `count` images of all parts of a split, always the same, in a mixed order.

    A data set may come sorted by class, and a batch of one class has statistics of its own.
    """
    chosen = np.random.default_rng(0).permutation(spread(len(test.labels), count))
    return Split(test.images[chosen], test.labels[chosen])


def as_inputs(loaded: Loaded, split: Split) -> tuple[Tensor, Tensor]:
    """Return images as the network is given them, (N, C, H, W) float32, and labels (N,) int64."""
    preprocessing = preprocessing_of(loaded.config)
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    return normalise(torch.tensor(split.images), mean, std), torch.tensor(split.labels)


@torch.no_grad()
def score(model: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int) -> tuple[float, float]:
    """Return mean loss and accuracy of a network in the mode it is in.

    `inputs` is (N, C, H, W) float32, `labels` (N,) int64. A last image alone is left out.
    """
    whole = len(labels) - (len(labels) % batch_size == 1)
    parts = [model(part) for part in inputs[:whole].split(batch_size)]
    logits = torch.cat(parts)
    correct = logits.argmax(1) == labels[:whole]
    return nn.functional.cross_entropy(
        logits, labels[:whole]
    ).item(), correct.double().mean().item()


def take_biases_away(loaded: Loaded, norm: str, classes: int = 10, batch: int = 16) -> BiasFinding:
    """Compare the network with and without biases before `norm`, the other weights being equal."""
    config, shape = loaded.config, preprocessing_of(loaded.config).input_shape
    torch.manual_seed(0)
    args = {**config.model.args, "norm": norm}
    full = build_model(config.model.name, args, classes, shape).double()
    bare = build_model(
        config.model.name, {**args, "bias_before_norm": False}, classes, shape
    ).double()
    kept = bare.state_dict().keys()
    bare.load_state_dict({k: v for k, v in full.state_dict().items() if k in kept})
    x = torch.randn(batch, *shape, dtype=torch.float64)
    y = torch.arange(batch) % classes
    outputs = []
    for model in (full, bare):
        output = model(x)
        nn.functional.cross_entropy(output, y).backward()
        outputs.append(output.detach())
    gradients = {name: gradient_of(p) for name, p in full.named_parameters()}
    others = {name: gradient_of(p) for name, p in bare.named_parameters()}
    largest = max(float(g.abs().max()) for g in others.values())
    return BiasFinding(
        norm=norm,
        parameters=sum(p.numel() for p in full.parameters()),
        parameters_without=sum(p.numel() for p in bare.parameters()),
        output_difference=float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max()),
        gradient_difference=max(
            float((gradients[name] - other).abs().max()) / largest for name, other in others.items()
        ),
        bias_gradient=max(
            float(g.abs().max()) / largest for name, g in gradients.items() if name not in others
        ),
    )


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """Return the gradient; nothing may be without one."""
    if parameter.grad is None:
        raise ValueError("a parameter got no gradient")
    return parameter.grad


def run_study(
    loaded: Loaded, data: ImageSet, plan: Plan, place: Path | None
) -> Iterator[tuple[Cell, int, int]]:
    """Yield every training of the plan, those that `place` holds first, and how many there are."""
    known = read_cells(place, describe(loaded, data, plan)) if place else []
    wanted = list(itertools.product(range(plan.seeds), plan.batch_sizes, plan.norms))
    done = {(cell.seed, cell.batch_size, cell.norm): cell for cell in known}
    for number, (seed, batch_size, norm) in enumerate(wanted, start=1):
        cell = done.get((seed, batch_size, norm))
        if cell is None:
            cell = train_cell(loaded, data, plan, norm, batch_size, seed)
            done[seed, batch_size, norm] = cell
            if place:
                write_cells(place, describe(loaded, data, plan), list(done.values()))
        yield cell, number, len(wanted)


def describe(loaded: Loaded, data: ImageSet, plan: Plan) -> dict[str, Any]:
    """Return what the figures depend on, as JSON types."""
    settings = loaded.as_dict()
    return json.loads(
        json.dumps(
            {
                "plan": asdict(plan),
                "model": settings["model"],
                "train": settings["train"],
                "images": data.info.title,
                "images_sha256": data.info.sha256,
            }
        )
    )


def read_cells(place: Path, settings: Mapping[str, Any]) -> list[Cell]:
    """Return the trainings that have ended; refuse those of another study."""
    if not place.exists():
        return []
    stored = json.loads(place.read_text(encoding="utf-8"))
    if stored["settings"] != settings:
        raise click.ClickException(
            f"{place} holds a study with other settings: move it away, or give another --out"
        )
    return [Cell(**cell) for cell in stored["cells"]]


def write_cells(place: Path, settings: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Store the trainings that have ended, with what they depend on."""
    value = {
        "settings": settings,
        "environment": describe_environment(),
        "cells": [asdict(cell) for cell in cells],
    }
    write_text(place, json.dumps(value, indent=1) + "\n")


def mean_of(cells: Sequence[Cell], field: str, norm: str, batch_size: int) -> float:
    """Return the mean over seeds."""
    found = [getattr(c, field) for c in cells if (c.norm, c.batch_size) == (norm, batch_size)]
    return float(np.mean(found))


def main_table(cells: Sequence[Cell], plan: Plan) -> str:
    """Return accuracy and loss of each normalisation at each batch size, as Markdown."""
    rows = []
    for norm in plan.norms:
        accuracies, losses = [], []
        for size in plan.batch_sizes:
            found = [c.accuracy for c in cells if (c.norm, c.batch_size) == (norm, size)]
            half = 100 * (max(found) - min(found)) / 2
            accuracies.append(f"{100 * np.mean(found):.1f} ± {half:.1f}")
            losses.append(f"{mean_of(cells, 'loss', norm, size):.3f}")
        rows.append([norm, *accuracies, *losses])
    headers = ["norm", *(f"accuracy % at {n}" for n in plan.batch_sizes)]
    headers += [f"loss at {n}" for n in plan.batch_sizes]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def claims(cells: Sequence[Cell], plan: Plan) -> str:
    """Return what the figures say to the claims of problem 1, as a Markdown list."""
    small, large = min(plan.batch_sizes), max(plan.batch_sizes)

    def percent(field: str, norm: str, size: int) -> float:
        return 100 * mean_of(cells, field, norm, size)

    changes = ", ".join(
        f"{percent('accuracy', n, small) - percent('accuracy', n, large):+.1f} points ({n})"
        for n in plan.norms
    )
    lines = [f"* From batch {large} to batch {small}, accuracy changes by {changes}."]
    for norm in plan.norms:
        means = [mean_of(cells, "accuracy", norm, size) for size in plan.batch_sizes]
        best = plan.batch_sizes[int(np.argmax(means))]
        lines.append(
            f"* {norm}: {100 * (max(means) - min(means)):.1f} points between its best batch size "
            f"({best}) and its worst."
        )
    if "batch" in plan.norms:
        gaps = ", ".join(
            f"{percent('accuracy', 'batch', n) - percent('batch_accuracy', 'batch', n):+.1f} at {n}"
            for n in plan.batch_sizes
        )
        lines.append(
            "* BatchNorm with its running statistics minus the same network normalising each test "
            f"batch by itself, as it did in training, in points: {gaps}."
        )
    return "\n".join(lines)


def bias_table(findings: Sequence[BiasFinding]) -> str:
    """Return what the biases before each normalisation are for, as Markdown."""
    rows = [
        [
            f.norm,
            f"{f.parameters:,} → {f.parameters_without:,}",
            f"{f.output_difference:.1e}",
            f"{f.gradient_difference:.1e}",
            f"{f.bias_gradient:.1e}",
        ]
        for f in findings
    ]
    headers = ["norm", "parameters", "outputs differ by", "other gradients differ by"]
    headers.append("gradient of the biases")
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def draw(cells: Sequence[Cell], plan: Plan, path: Path) -> None:
    """Draw accuracy and loss over the batch size, with the range over seeds."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    for axes, field, factor in ((left, "accuracy", 100.0), (right, "loss", 1.0)):
        for number, norm in enumerate(plan.norms):
            per_size = [
                [factor * getattr(c, field) for c in cells if (c.norm, c.batch_size) == (norm, n)]
                for n in plan.batch_sizes
            ]
            means = [float(np.mean(found)) for found in per_size]
            below = [m - min(found) for m, found in zip(means, per_size, strict=True)]
            above = [max(found) - m for m, found in zip(means, per_size, strict=True)]
            axes.errorbar(
                plan.batch_sizes, means, yerr=[below, above], label=norm, capsize=3,
                color=PALETTE[number], marker=MARKERS[number], linewidth=1.6,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(plan.batch_sizes, [str(size) for size in plan.batch_sizes])
        axes.minorticks_off()
        axes.set_xlabel("batch size in training")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("test accuracy (%)")
    right.set_ylabel("test cross-entropy (nats)")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, title="normalisation")
    figure.suptitle(
        f"{plan.images * plan.epochs:,} images seen; mean and range of {plan.seeds} seeds"
    )
    save_figure(figure, path)


def write_page(
    cells: Sequence[Cell],
    findings: Sequence[BiasFinding],
    loaded: Loaded,
    data: ImageSet,
    plan: Plan,
) -> str:
    """Return the whole study as Markdown."""
    facts = describe_environment()
    rate = loaded.config.train.learning_rate
    return (
        f"# Normalisations at small batches\n\n"
        f"{loaded.config.model.name} on {data.info.title}: {plan.images:,} random training images, "
        f"{plan.epochs} epochs, so {plan.images * plan.epochs:,} images seen whatever the batch "
        f"size; {plan.seeds} seeds. {loaded.config.train.optimizer}, one cycle up to a learning "
        f"rate of {rate:g} at batch {RATE_BATCH_SIZE} and of "
        f"{rate_for(rate, min(plan.batch_sizes)):.2g} at batch {min(plan.batch_sizes)} (it grows "
        f"with the square root). Scored on {min(plan.test_images, len(data.test.labels)):,} test "
        "images as they are; ± is half the range over seeds.\n\n"
        f"{main_table(cells, plan)}\n\n"
        "layer: all channels of an image together. instance: each channel of an image by itself. "
        "group: eight groups of channels. none: no normalisation.\n\n"
        "![accuracy and loss over the batch size](normalisation_study.svg)\n\n"
        f"## What problem 1 claims\n\n{claims(cells, plan)}\n\n"
        "## A bias before a normalisation (problem 6)\n\n"
        "The same weights with and without biases before the normalisation, one batch in train "
        "mode, float64. Outputs are relative to the largest output, gradients to the largest one "
        "of any weight.\n\n"
        f"{bias_table(findings)}\n\n"
        "Where mean and variance belong to one channel (batch, instance), the bias is part of the "
        "mean that is subtracted: without it the function and all other gradients are the same to "
        "rounding, and its own gradient is zero. Where they are shared by channels (layer, group), "
        "it is not redundant.\n\n"
        f"Machine: {facts['cpu']}, {facts['cores_usable']} usable cores; python {facts['python']}, "
        f"torch {facts['torch']}.\n\n"
        "    python -m benchmarks.normalisation_study --data PATH\n"
    )


@click.command()
@click.option("--config", "name", default="bn_cnn", show_default=True)
@click.option("--quick", is_flag=True, help="A handful of images: to see that it runs.")
@click.option("--images", type=click.IntRange(min=2), help="Training images.  [default: 4000]")
@click.option("--epochs", type=click.IntRange(min=1), help="[default: 5]")
@click.option("--seeds", type=click.IntRange(min=1), help="[default: 3]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for page, picture and JSON.")
@data_option
@set_option
@shared_options
@with_overrides
def main(
    name: str,
    quick: bool,
    images: int | None,
    epochs: int | None,
    seeds: int | None,
    out: Path | None,
    overrides: tuple[str, ...],
    paths: Paths,
    as_json: bool,
) -> None:
    """Train with every normalisation at several batch sizes; print the tables."""
    given = {"images": images, "epochs": epochs, "seeds": seeds}
    plan = replace(QUICK if quick else Plan(), **{k: v for k, v in given.items() if v is not None})
    loaded = load(name, overrides)
    source = load_data(loaded.config.data, paths.cache, NullListener())
    torch.set_num_threads(loaded.config.train.threads or usable_cores())
    cells = []
    for cell, number, total in run_study(
        loaded, source, plan, out / "normalisation_study.json" if out else None
    ):
        cells.append(cell)
        click.echo(
            f"{number}/{total}  {cell.norm} at batch {cell.batch_size}, seed {cell.seed}: "
            f"accuracy {100 * cell.accuracy:.1f} %, loss {cell.loss:.3f}",
            err=True,
        )
    classes = len(source.info.classes)
    findings = [take_biases_away(loaded, norm, classes) for norm in KINDS if norm != "none"]
    page = write_page(cells, findings, loaded, source, plan)
    if as_json:
        sys.stdout.write(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")
    else:
        sys.stdout.write(page)
    if out is not None:
        write_text(out / "normalisation_study.md", page)
        draw(cells, plan, out / "normalisation_study.svg")


if __name__ == "__main__":
    main()

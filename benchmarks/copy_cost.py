"""What does a lossy copy of the images cost in accuracy? Found by losing as much once more.

    python -m benchmarks.copy_cost --data cifar10-jpeg.tar.xz --originals foolbox/data \\
        --out benchmarks/results

The copy is compressed a second time, on a grid of blocks of its own, with the quality at which the
second loss is as large as the first. One network is trained and tested on the copy, the same one on
the copy of the copy; the difference says what the first loss cost, if the second costs as much. How
large the first loss is takes a few originals, PNG files whose names end in ``_<label>.png``: the
package foolbox 3.3.4 brings 20 of CIFAR-10's test images. About a quarter of an hour on two cores.
"""

import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import stats
from tabulate import tabulate

from benchmarks.normalisation_study import as_inputs, score, train_fresh
from foldbench.bench.cli.options import data_option, set_option, shared_options, with_overrides
from foldbench.bench.config.files import Loaded, load
from foldbench.bench.errors import DataError
from foldbench.bench.images.image_set import ImageSet, Split
from foldbench.bench.images.loading import load_data
from foldbench.bench.images.splits import spread
from foldbench.bench.machine.environment import describe_environment, usable_cores
from foldbench.bench.progress import NullListener
from foldbench.bench.store.directory import Paths
from foldbench.bench.store.files import write_text

Pixels = npt.NDArray[np.uint8]
"""(N, 3, H, W)."""
SHIFT, UNIT = 5, 16
"""Pixels by which the second grid lies elsewhere: odd, so that pairs of pixels that share a colour
do as well; and the side of a unit of JPEG with colours at half the resolution."""
QUALITIES = range(95, 9, -1)


@dataclass(frozen=True)
class Loss:
    """What compression does to pixels, 0 to 255."""

    images: int
    mean_absolute: float
    psnr_db: float
    """10 log10(255² / mean squared error)."""


@dataclass(frozen=True)
class Cell:
    """One training and its test accuracy, on images that were compressed once or twice."""

    times: int
    seed: int
    accuracy: float


def compress(images: Pixels, quality: int) -> Pixels:
    """Return (N, 3, H, W) images compressed as JPEG 4:2:0, on a grid that lies SHIFT pixels off."""
    height, width = images.shape[2:]
    after = [-(side + SHIFT) % UNIT for side in (height, width)]
    padded = np.pad(images, ((0, 0), (0, 0), (SHIFT, after[0]), (SHIFT, after[1])), mode="edge")
    found = np.empty_like(images)
    for number, pixels in enumerate(padded.transpose(0, 2, 3, 1)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        decoded = np.asarray(Image.open(file))[SHIFT:, SHIFT:][:height, :width]
        found[number] = decoded.transpose(2, 0, 1)
    return found


def loss_of(before: Pixels, after: Pixels) -> Loss:
    """Return what lies between two versions of the same images."""
    difference = before.astype(np.float64) - after
    squared = float(np.mean(difference**2))
    psnr = 10 * math.log10(255**2 / squared) if squared else math.inf
    return Loss(len(before), float(np.mean(np.abs(difference))), psnr)


def read_originals(folder: Path) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Return original images and their labels. Raises DataError when there are none."""
    files = sorted(folder.glob("cifar10_*_*.png"))
    if not files:
        raise DataError(
            f"{folder}: no file cifar10_<number>_<label>.png: give the folder of a few original "
            "images, or leave --originals out and give --quality"
        )
    pixels = [np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) for file in files]
    return np.stack(pixels), np.array([int(file.stem.rsplit("_", 1)[1]) for file in files])


def find_copies(originals: Pixels, labels: npt.NDArray[np.int64], copy: Split) -> Pixels:
    """Return each original's copy: of the images of its class the one that is nearest to it."""
    found = []
    for original, label in zip(originals, labels, strict=True):
        candidates = np.asarray(copy.images[copy.labels == label])
        distances = np.abs(candidates.astype(np.int16) - original).mean((1, 2, 3))
        found.append(candidates[int(distances.argmin())])
    return np.stack(found)


def quality_for(copies: Pixels, first: Loss) -> int:
    """Return the quality at which a second loss is nearest to the first, in decibels."""
    return min(
        QUALITIES, key=lambda q: abs(loss_of(copies, compress(copies, q)).psnr_db - first.psnr_db)
    )


def train_cell(loaded: Loaded, data: ImageSet, twice: ImageSet, times: int, seed: int) -> Cell:
    """Train the configuration's network on one version of the images and test it on the same."""
    source = data if times == 1 else twice
    config = loaded.config
    classes = len(source.info.classes)
    model, _ = train_fresh(loaded, config.model.args, config.train, source.train, classes, seed)
    inputs, labels = as_inputs(loaded, source.test)
    return Cell(times, seed, score(model.eval(), inputs, labels, 500)[1])


def difference_of(cells: Sequence[Cell]) -> tuple[float, float]:
    """Return the mean over seeds of once minus twice, and half its 95 % interval, in points.

    By Student's t for paired samples; the half is NaN for a single seed.
    """
    per_seed = [
        100 * sum(c.accuracy if c.times == 1 else -c.accuracy for c in cells if c.seed == seed)
        for seed in sorted({c.seed for c in cells})
    ]
    if len(per_seed) == 1:
        return per_seed[0], math.nan
    error = float(np.std(per_seed, ddof=1)) / len(per_seed) ** 0.5
    return float(np.mean(per_seed)), float(stats.t.ppf(0.975, len(per_seed) - 1)) * error


def compressed_again(data: ImageSet, quality: int) -> ImageSet:
    """Return all images compressed a second time."""
    train, test = (
        Split(compress(np.asarray(split.images), quality), split.labels)
        for split in (data.train, data.test)
    )
    return ImageSet(train=train, test=test, info=data.info)


def write_page(
    loaded: Loaded,
    data: ImageSet,
    quality: int,
    losses: Sequence[tuple[str, Loss]],
    cells: Sequence[Cell],
) -> str:
    """Return the whole finding as Markdown."""
    facts = describe_environment()
    mean, half = difference_of(cells)
    interval = "" if math.isnan(half) else f" ± {half:.2f} (95 %, Student's t over seeds)"
    pixels = tabulate(
        [[n, f"{v.images:,}", f"{v.mean_absolute:.2f}", f"{v.psnr_db:.1f}"] for n, v in losses],
        ["loss", "images", "mean absolute error of 255", "PSNR (dB)"],
        tablefmt="github",
        disable_numparse=True,
    )
    seeds = sorted({cell.seed for cell in cells})
    accuracy = {(cell.times, cell.seed): 100 * cell.accuracy for cell in cells}
    trained = tabulate(
        [
            [seed, *(f"{accuracy[n, seed]:.2f}" for n in (1, 2)),
             f"{accuracy[1, seed] - accuracy[2, seed]:+.2f}"]
            for seed in seeds
        ],
        ["seed", "compressed once, %", "twice, %", "difference, points"],
        tablefmt="github",
        disable_numparse=True,
    )  # fmt: skip
    return (
        f"# What the lossy copy costs\n\n"
        f"**{mean:.2f}{interval} points of accuracy**, if losing as much again costs as much as "
        f"losing it first: {loaded.name} on {data.info.title}, {loaded.config.train.epochs} "
        f"epochs, {len(data.train.labels):,} training and {len(data.test.labels):,} test images "
        "as they are.\n\n"
        f"{pixels}\n\n"
        f"The second compression has quality {quality} and a grid {SHIFT} pixels off the first.\n\n"
        f"{trained}\n\n"
        f"Machine: {facts['cpu']}, {facts['cores_usable']} usable cores; python {facts['python']}, "
        f"torch {facts['torch']}.\n\n"
        f"    python -m benchmarks.copy_cost --config {loaded.name} --data PATH "
        f"--quality {quality}\n"
    )


@click.command()
@click.option("--config", "name", default="fast_bn_cnn", show_default=True)
@click.option("--originals", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder of a few originals, to find the quality with.")  # fmt: skip
@click.option("--quality", type=click.IntRange(1, 95), help="Of the second compression, instead.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for page and JSON.")
@data_option
@set_option
@shared_options
@with_overrides
def main(
    name: str,
    originals: Path | None,
    quality: int | None,
    seeds: int,
    out: Path | None,
    overrides: tuple[str, ...],
    paths: Paths,
    as_json: bool,
) -> None:
    """Train on a copy and on the copy of the copy; print what the second loss costs."""
    if (originals is None) == (quality is None):
        raise click.UsageError("give --originals or --quality, one of them")
    loaded = load(name, overrides)
    source = load_data(loaded.config.data, paths.cache, NullListener())
    torch.set_num_threads(loaded.config.train.threads or usable_cores())
    losses = []
    if originals is not None:
        before, labels = read_originals(originals)
        copies = find_copies(before, labels, source.test)
        losses.append(("first", loss_of(before, copies)))
        quality = quality_for(copies, losses[0][1])
        losses.append(("second, of the same images", loss_of(copies, compress(copies, quality))))
    assert quality is not None
    twice = compressed_again(source, quality)
    chosen = spread(len(source.test.labels), 1000)
    sample = np.asarray(source.test.images)[chosen], twice.test.images[chosen]
    losses.append(("second", loss_of(*sample)))
    cells = []
    for cell in _cells(loaded, source, twice, seeds):
        cells.append(cell)
        click.echo(
            f"compressed {('once', 'twice')[cell.times - 1]}, seed {cell.seed}: "
            f"accuracy {100 * cell.accuracy:.2f} %",
            err=True,
        )
    page = write_page(loaded, source, quality, losses, cells)
    stored = {
        "config": loaded.name,
        **{section: loaded.as_dict()[section] for section in ("model", "train")},
        "images": source.info.title,
        "images_sha256": source.info.sha256,
        "quality": quality,
        "losses": [{"which": name, **asdict(loss)} for name, loss in losses],
        "cells": [asdict(cell) for cell in cells],
        "environment": describe_environment(),
    }
    text = json.dumps(stored, indent=1) + "\n"
    sys.stdout.write(text if as_json else page)
    if out is not None:
        write_text(out / f"copy_cost_{loaded.config.model.name}.md", page)
        write_text(out / f"copy_cost_{loaded.config.model.name}.json", text)


def _cells(loaded: Loaded, data: ImageSet, twice: ImageSet, seeds: int) -> Iterator[Cell]:
    for seed in range(seeds):
        for times in (1, 2):
            yield train_cell(loaded, data, twice, times, seed)


if __name__ == "__main__":
    main()

"""How long does the notebook's own way of training take, and how long does ours?

    python -m benchmarks.notebook_training --data cifar10-images.tar.xz --out benchmarks/results

The notebook's way: a DataLoader with two workers, each image a picture that is flipped, cropped,
made a tensor and normalised by itself; float32, a constant rate, the loss read back after every
step. It and foldbench's loop under each configuration take turns in one process, in random order,
a block of steps each. Rounds with something else running on the machine just before or after are
left out and replaced. From seconds per image follows what whole trainings take. The aim: a recipe
that needs a tenth of the notebook's time. About half an hour on two cores with the default.
"""

import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from foldbench.bench.analysis.estimates import Ratio, median_or_none, median_ratio
from foldbench.bench.cli.options import data_option, set_option, shared_options, with_overrides
from foldbench.bench.config.files import Loaded, load
from foldbench.bench.errors import ConfigError
from foldbench.bench.images.image_set import ImageSet, Split
from foldbench.bench.images.loading import load_data
from foldbench.bench.machine.environment import describe_environment, usable_cores
from foldbench.bench.machine.interference import measure_foreign_load
from foldbench.bench.progress import NullListener
from foldbench.bench.store.directory import Paths
from foldbench.bench.store.files import write_text
from foldbench.models.building.network import build_model
from foldbench.models.training.batches import split_batches
from foldbench.models.training.compiled import compiled
from foldbench.models.training.device import layout, pick_device
from foldbench.models.training.process_group import ProcessGroup
from foldbench.models.training.trainer import Trainer
from foldbench.models.transfer.fit import preprocessing_of
from foldbench.reports.rows.homework import Reference, references

NOTEBOOK = "notebook"
WORKERS = 2


@dataclass(frozen=True)
class Sizes:
    """How much is timed."""

    rounds: int = 12
    """Rounds to count; at most twice as many are made."""
    images: int = 2560
    """In a block, at the least."""
    settle_steps: int = 8
    """Before a block, untimed: more than what the workers prepare in advance."""
    foreign_cores: float = 0.1
    """Cores that others may keep busy around a round before it is left out."""


QUICK = Sizes(2, 64, 1, math.inf)


@dataclass(frozen=True)
class Block:
    """Consecutive timed steps of one way."""

    way: str
    round: int
    images: int
    seconds: float


@dataclass(frozen=True)
class Round:
    """One block of every way."""

    blocks: tuple[Block, ...]
    foreign_cores: float | None
    """What others kept busy just before and just after, the larger of the two."""


class Pictures(Dataset[tuple[Tensor, int]]):
    """Training images one at a time, as torchvision's CIFAR10 gives them to the notebook."""

    def __init__(self, split: Split, reference: Reference) -> None:
        size = split.images.shape[-1]
        recipe = reference.recipe
        self._images = split.images.transpose(0, 2, 3, 1)
        self._labels = split.labels
        self._transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomCrop(size, padding=recipe["train.augment.crop_padding"]),
                transforms.ToTensor(),
                transforms.Normalize(tuple(recipe["data.mean"]), tuple(recipe["data.std"])),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self._images[index])
        return self._transform(picture), int(self._labels[index])


class NotebookWay:
    """The notebook's loop over a loader with workers of its own."""

    def __init__(self, model: nn.Module, split: Split, reference: Reference) -> None:
        self._model = model.train()
        self._dataset = Pictures(split, reference)
        self._batch_size = reference.recipe["train.batch_size"]
        self._criterion = nn.CrossEntropyLoss()
        self._optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=reference.recipe["train.learning_rate"],
            weight_decay=reference.recipe["train.weight_decay"],
        )
        self.start_s: list[float] = []
        """Seconds from asking for an epoch to its first batch: the workers start anew each time."""

    def block(self, sizes: Sizes) -> tuple[int, float]:
        """Return the images and the seconds of one block; the workers end with it."""
        loader = DataLoader(
            self._dataset, batch_size=self._batch_size, shuffle=True, num_workers=WORKERS
        )
        asked = time.perf_counter()
        batches = iter(loader)
        self._step(*next(batches))
        self.start_s.append(time.perf_counter() - asked)
        for _ in range(sizes.settle_steps - 1):
            self._step(*next(batches))
        seen, started = 0, time.perf_counter()
        while seen < sizes.images:
            images, labels = next(batches)
            self._step(images, labels)
            seen += len(labels)
        return seen, time.perf_counter() - started

    def _step(self, images: Tensor, labels: Tensor) -> float:
        self._optimizer.zero_grad()
        loss = self._criterion(self._model(images), labels)
        loss.backward()
        self._optimizer.step()
        return loss.item()


class OurWay:
    """foldbench's own loop under a configuration; what it compiles lasts as long as `stack`."""

    def __init__(self, model: nn.Module, split: Split, loaded: Loaded, stack: ExitStack) -> None:
        config = loaded.config
        model.to(device=pick_device(config.train.device), memory_format=layout(config.train))
        self._trainer = Trainer(
            model,
            split,
            None,
            network=stack.enter_context(compiled(model, config.train.compile)),
            process_group=ProcessGroup(),
            settings=config.train,
            preprocessing=preprocessing_of(config),
            seed=config.seed,
            listener=NullListener(),
        )
        self._batch_size = config.train.batch_size
        self._epoch = 0
        self._generator = torch.Generator()
        self._batches: Iterator[Tensor] = iter(())
        model.train()

    def block(self, sizes: Sizes) -> tuple[int, float]:
        """Return the images and the seconds of one block."""
        for _ in range(sizes.settle_steps):
            self._step()
        seen, started = 0, time.perf_counter()
        while seen < sizes.images:
            seen += self._step()
        return seen, time.perf_counter() - started

    def end_s(self) -> float:
        """Return the seconds of what comes after the last epoch: statistics of averaged weights."""
        started = time.perf_counter()
        self._trainer.finish(max(1, self._epoch))
        return time.perf_counter() - started

    def _step(self) -> int:
        indices = next(self._batches, None)
        if indices is None:
            self._epoch += 1
            self._generator.manual_seed(self._epoch)
            count = len(self._trainer.train)
            self._batches = split_batches(count, self._batch_size, self._generator)
            indices = next(self._batches)
        loss, _ = self._trainer.step(indices, self._epoch, self._generator)
        loss.item()  # so that both ways know their loss
        return len(indices)


def run_rounds(
    ways: dict[str, Callable[[Sizes], tuple[int, float]]], sizes: Sizes, tell: Callable[[str], None]
) -> list[Round]:
    """Time every way once a round, in random order, until enough rounds were left alone."""
    chance, rounds = random.Random(0), []
    before = measure_foreign_load()
    while (
        sum(is_quiet(one, sizes) for one in rounds) < sizes.rounds
        and len(rounds) < 2 * sizes.rounds
    ):
        number, order = len(rounds), list(ways)
        chance.shuffle(order)
        blocks = tuple(Block(way, number, *ways[way](sizes)) for way in order)
        after = measure_foreign_load()
        known = [load for load in (before, after) if load is not None]
        rounds.append(Round(blocks, max(known, default=None)))
        before = after
        rates = ", ".join(f"{b.way} {b.images / b.seconds:,.0f}" for b in blocks)
        tell(
            f"round {number + 1}: images/s: {rates}"
            f"{'' if is_quiet(rounds[-1], sizes) else '  disturbed'}"
        )
    return rounds


def is_quiet(one: Round, sizes: Sizes) -> bool:
    """Return whether nothing else ran around a round, as far as the system tells."""
    return one.foreign_cores is None or one.foreign_cores <= sizes.foreign_cores


def seconds_per_image(rounds: Sequence[Round], way: str) -> dict[int, tuple[float]]:
    """Return the seconds per image of a way in each round."""
    return {b.round: (b.seconds / b.images,) for one in rounds for b in one.blocks if b.way == way}


@dataclass(frozen=True)
class Result:
    """What one way takes, for an image and for a whole training."""

    way: str
    speed_up: Ratio
    """How many times faster than the notebook an image is."""
    epochs: int
    training_s: float
    share: float
    """Of the notebook's whole training."""
    share_low: float | None
    share_high: float | None


def evaluate(
    rounds: Sequence[Round],
    ways: dict[str, int],
    images: int,
    start_s: float,
    ends_s: dict[str, float],
) -> list[Result]:
    """Return what each way takes; `ways` says for how many epochs it trains on `images` images.

    `start_s` is what the notebook's workers take each epoch, `ends_s` what comes after the last.
    """
    baseline = seconds_per_image(rounds, NOTEBOOK)
    image_s = median_or_none([s for (s,) in baseline.values()]) or 0.0
    notebook_s = ways[NOTEBOOK] * (images * image_s + start_s)

    def train_s(way: str, speed_up: float) -> float:
        extra_s = ways[way] * start_s if way == NOTEBOOK else ends_s.get(way, 0.0)
        return ways[way] * images * image_s / speed_up + extra_s

    results = []
    for way, epochs in ways.items():
        found = median_ratio(baseline, seconds_per_image(rounds, way))
        if found is None:
            raise ValueError(f"{way} was not timed")
        whole_s = train_s(way, found.point)
        results.append(
            Result(
                way=way,
                speed_up=found,
                epochs=epochs,
                training_s=whole_s,
                share=whole_s / notebook_s,
                share_low=train_s(way, found.high) / notebook_s if found.high else None,
                share_high=train_s(way, found.low) / notebook_s if found.low else None,
            )
        )
    return results


def span(low: float | None, high: float | None, factor: float, decimals: int) -> str:
    """Return an interval as text, blank where there is none."""
    if low is None or high is None or low == high:
        return ""
    return f"{factor * low:.{decimals}f}–{factor * high:.{decimals}f}"


def write_page(
    results: Sequence[Result],
    rounds: Sequence[Round],
    data: ImageSet,
    sizes: Sizes,
    model: str,
    overrides: Sequence[str],
) -> str:
    """Return the figures as Markdown; `overrides` hold for every configuration."""
    settings = "".join(f" --set {one}" for one in overrides)
    rows = []
    for r in results:
        rate = median_or_none(
            [b.images / b.seconds for one in rounds for b in one.blocks if b.way == r.way]
        )
        rows.append(
            [
                r.way,
                f"{rate:,.0f}",
                f"{r.speed_up.point:.2f}",
                span(r.speed_up.low, r.speed_up.high, 1, 2),
                str(r.epochs),
                f"{r.training_s / 60:,.1f}",
                f"{100 * r.share:.1f}",
                span(r.share_low, r.share_high, 100, 1),
            ]
        )
    headers = ["way", "images/s", "times as fast", "95 % interval", "epochs", "whole training, min"]
    headers += ["% of the notebook's time", "95 % interval"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    facts = describe_environment()
    counted = sum(is_quiet(one, sizes) for one in rounds)
    return (
        f"# The notebook's way of training, and ours\n\n"
        f"{model} on {data.info.title}. The notebook's way: its loop, a DataLoader with {WORKERS} "
        "workers, pictures flipped and cropped one by one, float32, a constant rate, batch 128. "
        "The others: foldbench under the configuration of that name.\n\n"
        f"{table}\n\n"
        f"{counted} of {len(rounds)} rounds count: in the others something else kept more than "
        f"{sizes.foreign_cores:g} cores busy just before or after. A round times every way in "
        f"random order, a block of {sizes.images:,} images each after {sizes.settle_steps} untimed "
        "steps. Times as fast: median over rounds of the ratio within a round, with a bootstrap "
        "interval. Whole training: seconds per image times all training images times epochs, with "
        "what the notebook's workers take to start each epoch, and what averaged weights take at "
        "the end; no training here was that long.\n\n"
        f"Machine: {facts['cpu']}, {facts['cores_usable']} usable cores; python {facts['python']}, "
        f"torch {facts['torch']}, torchvision {facts['torchvision']}.\n\n"
        f"    python -m benchmarks.notebook_training --data PATH{settings}\n"
    )


def pick_reference(configs: Sequence[Loaded]) -> Reference:
    """Return the homework's training of the network; raise ConfigError where there is none."""
    models = {loaded.config.model.name for loaded in configs}
    known = references()
    if len(models) != 1 or not models <= known.keys():
        raise ConfigError(
            f"found configurations for {', '.join(sorted(models))}; allowed: all for one of "
            f"{', '.join(known)}"
        )
    return known[models.pop()]


@click.command()
@click.argument("names", metavar="[CONFIG]...", nargs=-1)
@click.option("--rounds", type=click.IntRange(min=1), help="[default: 12]")
@click.option("--quick", is_flag=True, help="A handful of images: to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the page and the JSON.")
@data_option
@set_option
@shared_options
@with_overrides
def main(
    names: tuple[str, ...],
    rounds: int | None,
    quick: bool,
    out: Path | None,
    overrides: tuple[str, ...],
    paths: Paths,
    as_json: bool,
) -> None:
    """Time the notebook's way of training against each CONFIG [deep_mish fast_deep_mish]."""
    configs = [load(name, overrides) for name in names or ("deep_mish", "fast_deep_mish")]
    reference = pick_reference(configs)
    sizes = QUICK if quick else Sizes(**({"rounds": rounds} if rounds else {}))
    images = load_data(configs[0].config.data, paths.cache, NullListener())
    torch.set_num_threads(usable_cores())
    shape, classes = preprocessing_of(configs[0].config).input_shape, len(images.info.classes)

    def fresh(loaded: Loaded) -> nn.Module:
        return build_model(loaded.config.model.name, loaded.config.model.args, classes, shape)

    notebook = NotebookWay(
        build_model(reference.model, {}, classes, shape), images.train, reference
    )
    with ExitStack() as stack:
        candidate = {one.name: OurWay(fresh(one), images.train, one, stack) for one in configs}
        blocks = {NOTEBOOK: notebook.block, **{name: way.block for name, way in candidate.items()}}
        made = run_rounds(blocks, sizes, lambda text: click.echo(text, err=True))
        ends_s = {name: way.end_s() for name, way in candidate.items()}
    counted = [one for one in made if is_quiet(one, sizes)]
    if not counted:
        raise click.ClickException("no round was left alone: measure on a quieter machine")
    epochs = {NOTEBOOK: reference.recipe["train.epochs"]}
    epochs |= {loaded.name: loaded.config.train.epochs for loaded in configs}
    results = evaluate(
        counted,
        epochs,
        len(images.train.labels),
        median_or_none(notebook.start_s) or 0.0,
        ends_s,
    )
    page = write_page(results, made, images, sizes, reference.title, overrides)
    stored: dict[str, Any] = {
        "environment": describe_environment(),
        "images": images.info.title,
        "sizes": {**asdict(sizes), "foreign_cores": min(sizes.foreign_cores, usable_cores())},
        "configs": {loaded.name: loaded.as_dict()["train"] for loaded in configs},
        "results": [asdict(result) for result in results],
        "start_s": notebook.start_s,
        "rounds": [asdict(one) for one in made],
    }
    text = json.dumps(stored, indent=1) + "\n"
    sys.stdout.write(text if as_json else page)
    if out is not None:
        write_text(out / "notebook_training.md", page)
        write_text(out / "notebook_training.json", text)


if __name__ == "__main__":
    main()

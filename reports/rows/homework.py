"""The homework's figures, and whether a run may stand next to them.

`homework.json` holds what the notebook reports and what its code really did; sentences about a run
always name both sides.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from foldbench.bench.records import Checkpoint, DataInfo, Run
from foldbench.bench.records.published import PublishedRun
from foldbench.bench.units import percent, plain


@dataclass(frozen=True)
class TuningRow:
    """One line of the homework's tuning: a training on a part of the images, and its last loss."""

    learning_rate: float
    batch_size: int
    epochs: int
    loss: float
    """Mean training loss of the last epoch."""
    printed: bool
    """Whether a cell of the notebook printed it; otherwise its prose has it in a table."""


@dataclass(frozen=True)
class Reference:
    """What the homework reports of one network."""

    model: str
    problem: str
    title: str
    accuracy: float
    """Share of the test images, as reported."""
    test_images: int
    parameter_count: int
    """Of the network that the notebook's code builds."""
    recipe: Mapping[str, Any]
    """Configuration key path -> value with which the code ran."""
    losses: tuple[float, ...]
    """Mean training loss of each epoch, from the first."""
    tuning_images: int
    """Training images that its tuning used."""
    tuning: tuple[TuningRow, ...]


@dataclass(frozen=True)
class _Data:
    classes: frozenset[str]
    train_count: int
    test_count: int


@dataclass(frozen=True)
class Deviation:
    """One way in which a run differs from what the homework's code did, both values as text."""

    what: str
    here: str
    homework: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        name = self.what[0].upper() + self.what[1:]
        return f"{name}: here {self.here}; in the homework {self.homework}."


@cache
def _read() -> dict[str, Any]:
    return json.loads(
        (files("foldbench.reports.rows") / "homework.json").read_text(encoding="utf-8")
    )


@cache
def references() -> Mapping[str, Reference]:
    """Return the reported figures of problem 4 by model name."""
    return {name: _reference(name, entry) for name, entry in _read()["models"].items()}


def _reference(name: str, entry: Mapping[str, Any]) -> Reference:
    tuning = entry["tuning"]
    rows = tuple(
        TuningRow(rate, size, epochs, loss, kind == "printed")
        for kind in ("table", "printed")
        for rate, size, epochs, loss in tuning[kind]
    )
    return Reference(
        model=name,
        tuning_images=tuning["images"],
        **{**entry, "losses": tuple(entry["losses"]), "tuning": rows},
    )


def other_figures() -> Mapping[str, Any]:
    """Return what the homework reports outside problem 4, by problem number."""
    return _read()["other_figures"]


def reference_for(checkpoint: Checkpoint) -> Reference | None:
    """Return the figures that may stand next to `checkpoint`; None when there are none.

    The network must be one of the homework's, and its images CIFAR-10 or a copy of it.
    """
    return None if reason_for_blank(checkpoint) else references()[checkpoint.model]


def reason_for_blank(checkpoint: Checkpoint) -> str | None:
    """Return why no homework figure stands next to `checkpoint`, or None when one does."""
    known = references().get(checkpoint.model)
    if checkpoint.random_weights:
        return f"{checkpoint.network} has random weights: no accuracy is given."
    if checkpoint.model == "pretrained":
        return (
            f"No homework figure next to {checkpoint.network} here: those of problems 3 and 5, for "
            "networks trained on ImageNet, are in the table of bench homework."
        )
    if known is None:
        names = ", ".join(references())
        return (
            f"No homework figure for {checkpoint.model}: "
            f"the homework reports accuracy on CIFAR-10 for {names}."
        )
    fault = _foreign(checkpoint.data, _Data(**_data()))
    if fault is None:
        return None
    return (
        f"No homework figure next to {checkpoint.model} on {checkpoint.data.title}: the homework's "
        f"{percent(known.accuracy)} % is for CIFAR-10, and {fault}."
    )


def _data() -> dict[str, Any]:
    return {**_read()["data"], "classes": frozenset(_read()["data"]["classes"])}


def _foreign(data: DataInfo, homework: _Data) -> str | None:
    """Return in what way `data` is not CIFAR-10, or None when it is (or is a copy)."""
    if frozenset(data.classes) != homework.classes:
        return (
            f"these {plain(len(data.classes))} classes are others than its: "
            "a difference would compare two tasks"
        )
    own_counts, homework_values = (
        (data.train_count, data.test_count),
        (homework.train_count, homework.test_count),
    )
    if own_counts != homework_values:
        return (
            f"these are {plain(own_counts[0])} training and {plain(own_counts[1])} test images "
            f"instead of its {plain(homework_values[0])} and {plain(homework_values[1])}"
        )
    if not (data.original or data.title.startswith("CIFAR-10")):
        return "these images are not known to be a copy of it"
    return None


def deviations(run: Run) -> tuple[Deviation, ...]:
    """Return each way in which `run` differs from what the homework's code did.

    Empty where no homework figure stands next to the run (`reason_for_blank` says why). A constant
    learning rate is no deviation: a step every 30 epochs never comes within 30 epochs.
    """
    reference = reference_for(run.checkpoint)
    if reference is None:
        return ()
    scored = {m.accuracy.total for m in run.measurements if m.accuracy is not None}
    totals = sorted(scored) or [reference.test_images]
    found = {
        "images": _images(run.checkpoint.data),
        "network": f"{plain(run.checkpoint.parameter_count)} parameters",
        "evaluation": _EVALUATION[run.evaluation_protocol] + _mirrored(run),
        "images scored": " or ".join(map(plain, totals)),
        "data set scored": _scored(run),
        **{what: read(run.checkpoint.config) for what, read in _SETTINGS.items()},
    }
    homework_values = {
        "images": "the original CIFAR-10 files",
        "network": f"{plain(reference.parameter_count)} parameters",
        "evaluation": _EVALUATION[reference.recipe["evaluate.protocol"]],
        "images scored": plain(reference.test_images),
        "data set scored": _SAME,
        **{what: read(_nested(reference.recipe)) for what, read in _SETTINGS.items()},
    }
    return tuple(
        Deviation(what, found[what], homework_values[what])
        for what in homework_values
        if found[what] != homework_values[what]
    )


def told_deviations(run: Run) -> tuple[str, ...]:
    """Return the deviations of `run` as sentences."""
    if isinstance(run, PublishedRun):
        return tuple(run.summary["homework_deviations"])
    return tuple(map(str, deviations(run)))


def _images(data: DataInfo) -> str:
    return "the original CIFAR-10 files" if data.original else f"{data.title}, not the original"


def _mirrored(run: Run) -> str:
    return ", averaged with their mirror images" if _at(run.config, "evaluate.mirror") else ""


def _scored(run: Run) -> str:
    trained, scored = run.checkpoint.data, run.data
    if trained.sha256 == scored.sha256:
        return _SAME
    return f"{scored.title}, other images than those of the training ({trained.title})"


_SAME = "the one trained on"
_EVALUATION = {
    "homework": "test images flipped and cropped at random",
    "clean": "test images as they are",
}
_LOSS = {"homework": "mean of batch means", "clean": "mean over images"}


def _nested(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return key paths as the nested mapping that a configuration is."""
    result: dict[str, Any] = {}
    for path, value in recipe.items():
        *above, last = path.split(".")
        place = result
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return result


def _at(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _setting(path: str, absent: str = "not recorded") -> Callable[[Mapping[str, Any]], str]:
    """Return how the value at `path` is read; `absent` is what its absence means.

    The homework's recipe does not name what its code does not have, nor does the configuration of a
    run that was trained before foldbench had it.
    """

    def read(config: Mapping[str, Any]) -> str:
        value = _at(config, path)
        return absent if value in (None, {}) else plain(value)

    return read


def _schedule(config: Mapping[str, Any]) -> str:
    name = _at(config, "train.schedule.name")
    if name == "step":
        step, epochs = _at(config, "train.schedule.step_size"), _at(config, "train.epochs")
        return "constant" if step >= epochs else f"a step every {plain(step)} epochs"
    return "not recorded" if name is None else str(name)


def _epoch_loss(config: Mapping[str, Any]) -> str:
    protocol = _at(config, "train.protocol")
    return _LOSS.get(protocol, "not recorded") if isinstance(protocol, str) else "not recorded"


_SETTINGS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "arguments of the network": _setting("model.args", "none"),
    "training images used": _setting("data.subset", "all"),
    "training epochs": _setting("train.epochs"),
    "batch size in training": _setting("train.batch_size"),
    "parts of a batch, each normalised by itself": _setting("train.micro_batches", "1"),
    "optimizer": _setting("train.optimizer"),
    "learning rate": _setting("train.learning_rate"),
    "learning rate schedule": _schedule,
    "weight decay": _setting("train.weight_decay"),
    "rates for 1,024 images": _setting("train.decoupled", "off"),
    "weight decay of biases and normalisations": _setting("train.decay_norm_and_bias", "on"),
    "learning rate of normalisations' biases, times": _setting("train.norm_bias_factor", "1"),
    "share that averaged weights keep at a step": _setting("train.ema_decay", "0"),
    "initial weights": _setting("train.initial_weights", "default"),
    "label smoothing": _setting("train.label_smoothing"),
    "random flips in training": _setting("train.augment.flip"),
    "flips in turns": _setting("train.augment.alternating_flip", "off"),
    "edge of the random crop": _setting("train.augment.crop_edge", "black"),
    "pixels of cutout": _setting("train.augment.cutout", "0"),
    "share of images with a box of another": _setting("train.augment.cutmix", "0"),
    "pixels of padding before the random crop": _setting("train.augment.crop_padding"),
    "share of training images held out": _setting("train.validation_fraction"),
    "precision in training": _setting("train.precision"),
    "reported epoch loss": _epoch_loss,
    "image size": _setting("data.image_size"),
    "mean subtracted from pixels": _setting("data.mean"),
    "divisor of pixels": _setting("data.std"),
}
"""What is compared, and how it is read from a configuration."""

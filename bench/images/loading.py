"""The images that a configuration names."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from foldbench.bench import units
from foldbench.bench.config.data import DataSection
from foldbench.bench.config.files import from_dict
from foldbench.bench.errors import ConfigError, DataError, RunError
from foldbench.bench.images.image_set import DataOptions, ImageSet, Split
from foldbench.bench.images.repeats import find_repeats
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Checkpoint, Run
from foldbench.bench.registry import DATASETS

_LABEL_RULE = ("label_pattern", "split", "test_fraction", "split_seed")
_FIELDS = ("download", "image_size", "channels", "resize", *_LABEL_RULE)


def load_data(settings: DataSection, cache: Path, listener: ProgressListener) -> ImageSet:
    """Read the images; `cache` keeps decoded ones. Raises DataError when that is impossible.

    Raises ConfigError for settings that the data set would not take notice of.
    """
    path = Path(os.path.expanduser(settings.path)) if settings.path else None
    plugin = DATASETS.load(settings.name)
    _refuse_label_rule(settings, plugin)
    if path is not None:
        listener.note(f"reading {path}")
    fields = {name: getattr(settings, name) for name in _FIELDS}
    images: ImageSet = plugin.load(DataOptions(path=path, cache=cache, **fields))
    info = images.info
    how = "mapped from the cache" if info.from_cache else "decoded"
    listener.note(
        f"{info.title}: {units.count(info.train_count)} training and "
        f"{units.count(info.test_count)} test images, "
        f"{len(info.classes)} classes, {how} in {units.duration(info.decode_s)}"
    )
    repeats = find_repeats(images.train, images.test)
    if said := repeats.describe():
        listener.note(f"{info.title}: {said}")
    counts = {
        "tested_and_trained": repeats.tested_and_trained,
        "of_two_classes": repeats.of_two_classes,
    }
    return replace(images, info=info.model_copy(update=counts))


def _refuse_label_rule(settings: DataSection, plugin: ModuleType) -> None:
    if getattr(plugin, "TAKES_LABEL_RULE", False):
        return
    default = DataSection()
    for name in _LABEL_RULE:
        if getattr(settings, name) != getattr(default, name):
            raise ConfigError(
                f"data.{name}: data set {settings.name!r} has labels and a split of its own; "
                "leave it out, or use data.name flat or oxford_pets"
            )


def refuse_other_classes(checkpoint: Checkpoint, data: ImageSet) -> None:
    """Raise DataError when the images have other classes than the network was trained on."""
    if data.info.classes != checkpoint.classes:
        raise DataError(
            f"{data.info.title} has other classes ({', '.join(data.info.classes[:3])}, …) than "
            f"run {checkpoint.run} was trained on ({', '.join(checkpoint.classes[:3])}, …): "
            "give the images it was trained on with --data"
        )


def load_scored(
    run: Run, overrides: Sequence[str], cache: Path, listener: ProgressListener
) -> Split:
    """Return the test split that `run` was compared on, as it lies in the data set.

    `overrides` may say where the data set is now. Raises RunError when the images that are found
    are others.
    """
    config = from_dict(run.config, overrides, f"{run.name}/results.json")
    found = load_data(config.data, cache, listener)
    if found.info.sha256 != run.data.sha256:
        raise RunError(
            f"{found.info.title} ({found.info.path or found.info.name}) does not hold the images "
            f"that {run.name} was compared on ({run.data.title}): give their place with --data"
        )
    return found.test

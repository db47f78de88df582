"""The images that a configuration names."""

import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from foldbench.bench.config.schema import DataSection
from foldbench.bench.datasets import DataOptions, ImageSet
from foldbench.bench.errors import ConfigError
from foldbench.bench.images.repeats import find_repeats
from foldbench.bench.progress import ProgressListener
from foldbench.bench.registry import DATASETS

_LABEL_RULE = ("label_pattern", "split", "test_fraction", "split_seed")
_FIELDS = ("download", "image_size", "resize", *_LABEL_RULE)


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
        f"{info.title}: {info.train_count:,} training and {info.test_count:,} test images, "
        f"{len(info.classes)} classes, {how} in {info.decode_s:.1f} s"
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

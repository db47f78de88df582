"""The images that a configuration names."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from foldbench.bench import units
from foldbench.bench.config.data import DataSection
from foldbench.bench.config.files import from_dict
from foldbench.bench.errors import ConfigError, RunError, listed
from foldbench.bench.images.classes import match_classes
from foldbench.bench.images.image_set import DataOptions, ImageSet, Split, content_sha256
from foldbench.bench.images.repeats import find_repeats
from foldbench.bench.images.splits import draw_held_out, draw_stratified
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import DataInfo, Run
from foldbench.bench.registry import DATASETS
from foldbench.bench.store.files import json_sha256

_LABEL_RULE = ("label_pattern", "split", "test_fraction", "split_seed")
_FIELDS = (
    *("download", "image_size", "channels", "resize", "skip_bad", "test_subset"),
    *_LABEL_RULE,
)


def load_data(
    settings: DataSection, cache: Path, listener: ProgressListener, needs_train: bool = True
) -> ImageSet:
    """Read the images; `cache` keeps decoded ones. Raises DataError when that is impossible.

    Training images may be missing from the result unless `needs_train`. Raises ConfigError for
    settings that the data set would not take notice of.
    """
    path = Path(os.path.expanduser(settings.path)) if settings.path else None
    # Noise stands in where there are no images; a path says that now there are.
    name = "images" if settings.name == "noise" and path is not None else settings.name
    plugin = DATASETS.load(name)
    _refuse_label_rule(settings, plugin)
    if path is not None:
        listener.note(f"reading {path}")
    fields = {name: getattr(settings, name) for name in _FIELDS}
    options = DataOptions(
        path=path, cache=cache, needs_train=needs_train, listener=listener, **fields
    )
    images: ImageSet = plugin.load(options)
    if settings.test_subset is not None and not getattr(plugin, "TAKES_TEST_SUBSET", False):
        images = _draw_test(images, settings.test_subset, settings.split_seed)
    if settings.calibration_share:
        images = _set_aside(images, settings.calibration_share, settings.split_seed)
    if settings.calibration_path is not None:
        images = _with_calibration(images, settings, cache, listener)
    images = _count_classes(images)
    info = images.info
    if info.form is not None:
        listener.note(f"{info.title}: read as {info.form}")
    own = settings.calibration_path is None and not settings.calibration_share
    listener.note(_describe(info, "training" if own else "calibration"))
    repeats = find_repeats(images.train, images.test)
    if said := repeats.describe():
        listener.note(f"{info.title}: {said}")
    counts = {
        "tested_and_trained": repeats.tested_and_trained,
        "of_two_classes": repeats.of_two_classes,
    }
    return replace(images, info=info.model_copy(update=counts))


def _draw_test(images: ImageSet, count: int, seed: int) -> ImageSet:
    """Return the images with a sample of the test split; they are other images then."""
    test = images.test.part(draw_stratified(images.test.labels, len(images.test), count, seed))
    info = images.info.model_copy(
        update={
            "test_count": count,
            "sha256": json_sha256([images.info.sha256, content_sha256(test)]),
            "test_files_sha256": json_sha256([images.info.test_files_sha256, count, seed]),
        }
    )
    return replace(images, test=test, info=info)


def _set_aside(images: ImageSet, share: float, seed: int) -> ImageSet:
    """Return the images with a share of the test split in place of training images.

    Raises ConfigError where there are training images.
    """
    info, test = images.info, images.test
    if images.train is not None and len(images.train):
        raise ConfigError(
            f"data.calibration_share: {info.title} has {units.count(len(images.train))} training "
            "images to make a lower precision with: leave it out"
        )
    kept, held = draw_held_out(test.require_labels(), share, seed)
    tested = test.part(kept)
    changed = {
        "title": f"{info.title} without the {units.count(len(held))} set aside for calibration",
        "train_count": len(held),
        "test_count": len(kept),
        "sha256": json_sha256([info.sha256, content_sha256(tested)]),
        "test_files_sha256": json_sha256([info.test_files_sha256, share, seed]),
    }
    return replace(images, train=test.part(held), test=tested, info=info.model_copy(update=changed))


def _with_calibration(
    images: ImageSet, settings: DataSection, cache: Path, listener: ProgressListener
) -> ImageSet:
    """Return the images with those of ``calibration_path`` in place of training images."""
    fields = {
        "name": "images",
        "path": settings.calibration_path,
        "calibration_path": None,
        "calibration_share": 0.0,
        "test_subset": None,
    }
    other = load_data(settings.model_copy(update=fields), cache, listener, needs_train=False)
    other = match_classes(images.info.classes, other, listener)
    info = images.info.model_copy(update={"train_count": len(other.test)})
    return replace(images, train=other.test, info=info)


def _count_classes(images: ImageSet) -> ImageSet:
    if images.test.labels is None:
        return images
    counts = np.bincount(images.test.labels, minlength=len(images.info.classes))
    update = {"test_class_counts": tuple(counts.tolist())}
    return replace(images, info=images.info.model_copy(update=update))


_WORTH_SAYING_S = 1.0
_NAMED_CLASSES = 6


def _describe(info: DataInfo, others: str) -> str:
    """Return how many images there are, of which classes, and what was skipped, in one line."""
    counts = f"{units.count(info.train_count)} {others} and " if info.train_count else ""
    parts = [
        f"{info.title}: {counts}{units.count(info.test_count)} test images",
        *_describe_classes(info),
    ]
    if info.decode_s >= _WORTH_SAYING_S and not info.from_cache:
        parts.append(f"read in {units.duration(info.decode_s)}")
    skipped = sorted(info.skipped.items(), key=lambda item: -item[1])
    if skipped:
        reasons = listed(f"{units.count(count)} {reason}" for reason, count in skipped)
        parts.append(f"files skipped: {reasons}")
    return ", ".join(parts)


def _describe_classes(info: DataInfo) -> list[str]:
    counts = info.test_class_counts
    if counts is None:
        return ["no labels"]
    known = f"{units.count(len(info.classes))} classes"
    if len(counts) <= _NAMED_CLASSES:
        each = (f"{n} {units.count(c)}" for n, c in zip(info.classes, counts, strict=True))
        known += f" ({', '.join(each)})"
    else:
        least, most = min(counts), max(counts)
        known += f" (of {units.count(least)} to {units.count(most)} test images)"
    share = units.percent(max(counts) / max(1, info.test_count))
    name = info.classes[counts.index(max(counts))]
    return [known, f"majority class {name} {share} %"]


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
    checkpoint = run.checkpoint
    return match_classes(checkpoint.classes, found, class_ids=checkpoint.class_ids).test

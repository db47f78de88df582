"""Images that lie side by side and are named after their class, and how they are split in two.

The order is that of the sorted file names: the order in which a file system lists a folder differs
from machine to machine. A random split draws what scikit-learn's train_test_split draws, and keeps
its order, so that training on the images one after the other is training in random order.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from foldbench.bench import units
from foldbench.bench.arrays import Pixels, Rows
from foldbench.bench.errors import ConfigError, DataError
from foldbench.bench.images import cache
from foldbench.bench.images.decode import BadFiles, Decoded, decoded
from foldbench.bench.images.image_set import DataOptions, ImageSet, Split
from foldbench.bench.images.layout import (
    is_hidden,
    is_image_name,
    listed,
    readable_name,
    suffix_reason,
)
from foldbench.bench.images.sources import (
    ImageSource,
    image_files,
    open_source,
)
from foldbench.bench.store.files import json_sha256

FORM = "allowed: a folder of images, or a .tar, .tar.gz, .tar.bz2 or .tar.xz of one"


@dataclass(frozen=True)
class LabelRule:
    """Reads the class of an image from its file's name."""

    pattern: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> "LabelRule":
        """Return the rule for a regular expression; raise ConfigError unless it has one group."""
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise ConfigError(
                f"data.label_pattern: {text!r} is no regular expression: {error}"
            ) from None
        if pattern.groups != 1:
            raise ConfigError(
                f"data.label_pattern: {text!r} has {pattern.groups} groups; allowed: one, around "
                r"the class in a file's name, such as '(.+)_\d+'"
            )
        return cls(pattern)

    def read(self, file_name: str, origin: str) -> str:
        """Return the class in `file_name`; raise DataError that names `origin` without one."""
        match = self.pattern.match(file_name)
        label = (match[1] or "") if match else ""
        if not label:
            raise DataError(
                f"{origin}: no class in the name {file_name!r} by the rule "
                f"{self.pattern.pattern!r}: correct data.label_pattern, or remove the file"
            )
        return label


class FlatLayout:
    """Takes every image for one of the data set, whatever folder it lies in."""

    form = FORM

    def __init__(self, path: Path, rule: LabelRule) -> None:
        self._path = path
        self._rule = rule
        self._classes: set[str] = set()
        self._folders: set[str] = set()
        self.left_out: Counter[str] = Counter()

    def place(self, parts: tuple[str, ...], is_folder: bool) -> tuple[str, str, str] | None:
        """Return "", class and path of an image; None for anything else."""
        if is_folder or not parts:
            return None
        parts = tuple(map(readable_name, parts))
        if any(map(is_hidden, parts)) or not is_image_name(parts[-1]):
            self.left_out["hidden" if is_hidden(parts[-1]) else suffix_reason(parts[-1])] += 1
            return None
        name = "/".join(parts)
        self._folders.add("/".join(parts[:-1]))
        label = unicodedata.normalize("NFC", self._rule.read(parts[-1], f"{self._path}: {name}"))
        self._classes.add(label)
        return "", label, name

    def check(self) -> None:
        """Raise DataError unless there are images of two or more classes."""
        if not self._classes:
            raise DataError(f"{self._path} holds no images; {FORM}: correct --data")
        if len(self._folders) > 1:
            raise DataError(
                f"{self._path} has images in several folders ({listed(self._folders)}), which are "
                "class folders and not read by file names: set data.name to images"
            )
        if len(self._classes) == 1:
            raise DataError(
                f"{self._path} has images of one class only ({listed(self._classes)}) by the rule "
                f"{self._rule.pattern.pattern!r}; a classifier needs two or more: add images or "
                "correct data.label_pattern"
            )


SplitChooser = Callable[[Sequence[str], Sequence[str]], tuple[Rows, Rows]]
"""From names in order and their classes to the rows to train and to test on, in that order."""


def draw_split(
    names: Sequence[str], labels: Sequence[str], *, options: DataOptions, stratified: bool
) -> tuple[Rows, Rows]:
    """Return the rows that scikit-learn's train_test_split draws; raise DataError if it cannot."""
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            np.arange(len(names)),
            test_size=options.test_fraction,
            random_state=options.split_seed,
            stratify=list(labels) if stratified else None,
        )
    except ValueError as error:
        raise DataError(
            f"cannot split {len(names)} images of {len(set(labels))} classes, "
            f"{units.plain(options.test_fraction)} of them to test on: {error}: "
            "change data.test_fraction or data.split, or give more images"
        ) from None
    return train, test


def load_drawn(options: DataOptions, path: Path, pattern: str, name: str) -> ImageSet:
    """Return all images in `path`, labelled by `pattern` and split by drawing.

    `name` is the data set's. Raises DataError for a path that is missing or holds no images, names
    without a class, and what `load_split` raises; ConfigError for a bad rule.
    """
    options.refuse_other_channels()
    rule = LabelRule.parse(pattern)
    source = open_source(path, partial(FlatLayout, rule=rule), image_files, options.listener)
    stratified = options.split != "random"
    kind = "stratified" if stratified else "random"
    return load_split(
        options,
        path,
        source,
        partial(draw_split, options=options, stratified=stratified),
        rule=(pattern, kind, options.test_fraction, options.split_seed),
        name=name,
        title=(
            f"{path.name} (class in the name: {pattern}; {kind} split, "
            f"{units.plain(options.test_fraction)} to test on, seed {options.split_seed})"
        ),
    )


def load_split(
    options: DataOptions,
    path: Path,
    source: ImageSource,
    choose: SplitChooser,
    *,
    rule: Sequence[object],
    name: str,
    title: str,
    original: bool = False,
) -> ImageSet:
    """Return the images of `source` as `choose` splits them, decoded once for each `rule`.

    Raises DataError for a damaged image, and for a class that one of the splits has no image of.
    """
    return cache.fetch(
        options,
        path,
        source.fingerprint,
        lambda bad: _decode(source, options, choose, bad),
        skipped=source.skipped,
        kind="flat",
        rule=rule,
        name=name,
        title=lambda _: title,
        original=original,
    )


def _decode(
    source: ImageSource, options: DataOptions, choose: SplitChooser, bad: BadFiles
) -> Decoded:
    """Return all images, split by `choose`, in its order."""
    found: dict[str, Pixels] = {}
    class_of: dict[str, str] = {}
    formats: set[str] = set()
    files = decoded(source.files(), options.image_size, options.resize, options.channels, bad)
    for file, pixels, kind in files:
        found[file.name], class_of[file.name] = pixels, file.class_name
        formats.add(kind)
    names = sorted(found)
    labels = [class_of[name] for name in names]
    train, test = choose(names, labels)
    classes = tuple(sorted(set(labels)))
    _refuse_empty(classes, labels, {"training": train, "test": test})
    numbers = np.array([classes.index(label) for label in labels], np.int64)
    return Decoded(
        Split(_take(found, [names[row] for row in train], options.shape), numbers[train]),
        Split(_take(found, [names[row] for row in test], options.shape), numbers[test]),
        classes,
        tuple(sorted(formats)),
        json_sha256([[names[row], labels[row]] for row in test]),
    )


def _take(found: dict[str, Pixels], names: Sequence[str], shape: tuple[int, int, int]) -> Pixels:
    """Return the images of `names` in order, and forget them where they were."""
    images = np.empty((len(names), *shape), np.uint8)
    for row, name in enumerate(names):
        images[row] = found.pop(name)
    return images


def _refuse_empty(classes: Sequence[str], labels: Sequence[str], splits: dict[str, Rows]) -> None:
    for split, rows in splits.items():
        counts = Counter(labels[row] for row in rows)
        empty = [name for name in classes if not counts[name]]
        if empty:
            raise DataError(
                f"the {split} split has no images of {listed(empty)}: choose data.split: "
                "stratified, another data.test_fraction, or give more images"
            )

"""Any images side by side in a folder or a tar archive, named after their class.

``data.label_pattern`` is a regular expression for the start of a file's name, with one group around
the class: ``(.+)_\\d+`` reads ``great_pyrenees`` in ``great_pyrenees_12.jpg``. The images are
sorted by name and split as ``data.split`` says: random, or stratified (the same share of each
class; also by default), with the same outcome for the same ``data.split_seed``.
"""

from functools import partial
from pathlib import Path
from time import perf_counter

from foldbench.bench import units
from foldbench.bench.datasets import DataOptions, ImageSet
from foldbench.bench.datasets.imagefolder import changes
from foldbench.bench.errors import DataError
from foldbench.bench.images import cache
from foldbench.bench.images.flat import (
    FORM,
    LabelRule,
    SplitChooser,
    decode_flat,
    draw_split,
    open_flat,
)
from foldbench.bench.images.pixels import VERSION
from foldbench.bench.images.sources import ImageSource
from foldbench.bench.records import DataInfo
from foldbench.bench.store.files import json_sha256

TAKES_LABEL_RULE = True


def load(options: DataOptions) -> ImageSet:
    """Return the images at `options.path`, from the cache when they were decoded before.

    Raises DataError for a path that is missing or holds no images, damaged images, names without a
    class, a class that only one of the splits has; ConfigError for a bad rule.
    """
    if options.path is None:
        raise DataError(f"flat needs a place to read from; {FORM}: give it with --data PATH")
    if options.label_pattern is None:
        raise DataError(
            f"{options.path}: which part of a file's name is its class is not said: set "
            r"data.label_pattern to a regular expression with one group, such as '(.+)_\d+'"
        )
    return load_drawn(options, options.path, options.label_pattern, "flat")


def load_drawn(options: DataOptions, path: Path, pattern: str, name: str) -> ImageSet:
    """Return all images in `path`, labelled by `pattern` and split by drawing."""
    source = open_flat(path, LabelRule.parse(pattern))
    stratified = options.split != "random"
    kind = "stratified" if stratified else "random"
    title = (
        f"{path.name} (class in the name: {pattern}; {kind} split, "
        f"{units.plain(options.test_fraction)} to test on, seed {options.split_seed})"
    )
    return load_split(
        options,
        path,
        source,
        partial(draw_split, options=options, stratified=stratified),
        [pattern, kind, options.test_fraction, options.split_seed],
        (name, title, False),
    )


def load_split(
    options: DataOptions,
    path: Path,
    source: ImageSource,
    choose: SplitChooser,
    rule: list[object],
    identity: tuple[str, str, bool],
) -> ImageSet:
    """Return the images of `source` as `choose` splits them, decoded once for each `rule`.

    `identity` is the data set's name, its title and whether these are its own files.
    """
    started = perf_counter()
    key = json_sha256(
        [source.fingerprint, options.image_size, VERSION, rule, *changes(options.resize)]
    )
    entry, train, test, from_cache = cache.fetch(
        options.cache / "flat" / key[:24],
        key,
        options.image_size,
        path,
        lambda: decode_flat(source, options, choose),
    )
    name, title, original = identity
    info = DataInfo(
        name=name,
        title=title,
        path=str(path),
        sha256=entry.sha256,
        train_count=len(train.labels),
        test_count=len(test.labels),
        classes=entry.classes,
        original=original,
        decode_s=perf_counter() - started,
        from_cache=from_cache,
        test_files_sha256=entry.test_files_sha256,
    )
    return ImageSet(train, test, info)

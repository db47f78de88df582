"""Your own images in any usual form, which is recognised from what is there and said in one line.

Class folders alone are the test split, as is what lies in test/, val/ or valid/ (in any case); what
lies in train/ is for training and calibration and need not be there. A folder of images without
class folders has no labels, unless a table of path,label lies beside them. Each of these may be a
.zip or .tar archive, and so may arrays. Or a .csv of path,label; an .npz or .npy of arrays; or
loader.py:function, which yields batches of arrays.

The test split is decoded into a file of the cache and mapped from there, training images only where
they are asked for.
"""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

from foldbench.bench.errors import DataError
from foldbench.bench.images.array_files import Arrays, arrays_in, fit, read_arrays, to_split
from foldbench.bench.images.forms import ALLOWED, Form, Member, has_no_classes, recognise
from foldbench.bench.images.image_set import (
    DataOptions,
    ImageSet,
    content_sha256,
    make_image_set,
)
from foldbench.bench.images.listing import ARRAYS, TABLES, Listing, list_images
from foldbench.bench.images.mapped import Mapped, fetch_split
from foldbench.bench.images.splits import draw_stratified
from foldbench.bench.images.tables import read_table, table_in
from foldbench.bench.images.user_loader import run_loader, split_spec

TAKES_TEST_SUBSET = True


def load(options: DataOptions) -> ImageSet:
    """Return the images at `options.path`, decoded ones from the cache.

    Raises DataError for a path that is missing or in no known form, or files that cannot be read.
    """
    path = options.path
    if path is None:
        raise DataError(f"images needs a place to read from; {ALLOWED}: give it with --data PATH")
    started = perf_counter()
    spec = split_spec(path)
    suffix = path.suffix.lower()
    if spec is not None:
        arrays = run_loader(*spec, options.cache, options.listener)
        return _from_arrays(options, path, arrays, f"batches of {spec[0].name}:{spec[1]}", started)
    if path.is_file() and suffix in ARRAYS:
        return _from_arrays(options, path, read_arrays(path), f"arrays of a {suffix}", started)
    if path.is_file() and suffix in TABLES:
        options.refuse_other_channels()
        return _from_files(options, *read_table(path), started)
    listing = list_images(path, ALLOWED, options.listener)
    inside = arrays_in(listing)
    if inside is not None:
        return _from_arrays(options, path, inside, f"arrays in a {listing.kind}", started)
    options.refuse_other_channels()
    table = table_in(listing) if has_no_classes(listing) else None
    return _from_files(options, listing, table or recognise(listing), started)


def _from_arrays(
    options: DataOptions, path: Path, arrays: Arrays, what: str, started: float
) -> ImageSet:
    found, classes = to_split(arrays, options, str(path))
    if options.test_subset is not None:
        rows = draw_stratified(found.labels, len(found), options.test_subset, options.split_seed)
        found = found.part(rows)
    test = replace(found, images=fit(found.images, options))
    sha256 = content_sha256(test)
    as_found = sha256 if test.images is found.images else content_sha256(found)
    labels = "with" if test.labels is not None else "without"
    return make_image_set(
        None,
        test,
        name="images",
        title=path.name,
        path=path,
        classes=classes,
        original=False,
        started=started,
        sha256=sha256,
        test_files_sha256=as_found,
        form=f"{what}, {test.images.dtype}, {labels} labels",
    )


def _from_files(options: DataOptions, listing: Listing, form: Form, started: float) -> ImageSet:
    named = {member.class_name for member in (*form.train, *form.test)} - {None}
    classes = _ordered({name for name in named if name is not None})
    members = _subset(options, form.test, classes)
    test = fetch_split(options, listing, members, classes, "test")
    train = None
    if options.needs_train and form.train:
        train = fetch_split(options, listing, form.train, classes, "training")
    return make_image_set(
        train.split if train else None,
        test.split,
        name="images",
        title=listing.path.name,
        path=listing.path,
        classes=classes,
        original=False,
        started=started,
        sha256=test.entry.sha256,
        from_cache=test.from_cache and (train is None or train.from_cache),
        test_files_sha256=test.entry.files_sha256,
        train_sha256=train.entry.sha256 if train else None,
        train_count=len(train.split) if train else len(form.train),
        form=form.text,
        skipped=_skipped(listing, form, [split for split in (test, train) if split]),
    )


def _ordered(classes: set[str]) -> tuple[str, ...]:
    """Return the names sorted; as numbers where all of them are."""
    if all(name.isascii() and name.isdecimal() for name in classes):
        return tuple(sorted(classes, key=lambda name: (int(name), name)))
    return tuple(sorted(classes))


def _subset(
    options: DataOptions, members: tuple[Member, ...], classes: tuple[str, ...]
) -> tuple[Member, ...]:
    if options.test_subset is None:
        return members
    labels = None
    if all(member.class_name is not None for member in members):
        import numpy as np

        number = {name: index for index, name in enumerate(classes)}
        labels = np.array([number[member.class_name or ""] for member in members], np.int64)
    rows = draw_stratified(labels, len(members), options.test_subset, options.split_seed)
    return tuple(members[row] for row in rows)


def _skipped(listing: Listing, form: Form, splits: list[Mapped]) -> dict[str, int]:
    total = listing.skipped + form.skipped
    for split in splits:
        total.update(split.entry.skipped)
    return {reason: count for reason, count in total.items() if count}

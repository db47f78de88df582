"""The classes of images matched with those of a network, by name and never by order alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from foldbench.bench import units
from foldbench.bench.errors import DataError, listed
from foldbench.bench.images.image_set import ImageSet, Split
from foldbench.bench.progress import ProgressListener


def match_classes(
    network_classes: Sequence[str],
    images: ImageSet,
    listener: ProgressListener | None = None,
    class_ids: Sequence[str] = (),
) -> ImageSet:
    """Return `images` with the network's classes, their labels numbered as the network does.

    Classes are matched by name, or by `class_ids`, what each may be called otherwise; those of the
    images may be a part of the network's, in any order. Where one side has names and the other
    numbers, the order of the names (sorted) counts, which is said: `DataInfo.class_mapping` and
    `listener` have it. Images without labels have any classes. Raises DataError that names classes
    of both sides where they cannot be matched.
    """
    names, found = tuple(network_classes), images.info.classes
    if found == names:
        return images
    if images.test.labels is None and images.train is None:
        return replace(images, info=images.info.model_copy(update={"classes": names}))
    numbers, how = _match(names, found, images.info.title, class_ids)
    if listener is not None and how:
        listener.note(f"{images.info.title}: {how}")
    counts = images.info.test_class_counts
    if counts is not None:
        spread = np.zeros(len(names), np.int64)
        spread[numbers] = counts
        counts = tuple(spread.tolist())
    update = {"classes": names, "class_mapping": how or None, "test_class_counts": counts}
    return replace(
        images,
        train=_renumbered(images.train, numbers) if images.train is not None else None,
        test=_renumbered(images.test, numbers),
        info=images.info.model_copy(update=update),
    )


def _renumbered(split: Split, numbers: np.ndarray) -> Split:
    return split if split.labels is None else Split(split.images, numbers[split.labels])


def _match(
    names: tuple[str, ...], found: tuple[str, ...], title: str, ids: Sequence[str]
) -> tuple[np.ndarray, str]:
    """Return the network's number of each class of the images, and how it was found."""
    for fold in (str, _folded):
        numbers = _numbers([fold(name) for name in names], [fold(name) for name in found])
        if numbers is not None:
            return numbers, _by_name(names, found, alike=fold is not str)
    numbers = _numbers(ids, found)
    if numbers is not None:
        return numbers, f"{units.count(len(found))} classes matched by id, such as {found[0]}"
    by_order = "their order is taken to be the network's: check it, or name the classes with "
    if _are_numbers(found) and max(map(int, found), default=0) < len(names):
        numbers = np.array([int(name) for name in found], np.int64)
        return numbers, f"labels are numbers; {by_order}class folders"
    if _are_numbered(names) and len(found) == len(names):
        how = (
            f"the network's classes are numbers; the {len(found)} classes in sorted order "
            f"({listed(found, 3)}) are taken for 0 to {len(names) - 1}: check it, or name the "
            "network's classes with --classes FILE"
        )
        return np.arange(len(names)), how
    raise _unmatched(names, found, title)


def _numbers(known: Sequence[str], found: Sequence[str]) -> np.ndarray | None:
    """Return where each of `found` is in `known`; None unless each is there just once."""
    counts = Counter(known)
    index = {name: number for number, name in enumerate(known) if counts[name] == 1}
    if len(set(found)) < len(found) or not index.keys() >= {*found}:
        return None
    return np.array([index[name] for name in found], np.int64)


def _by_name(names: tuple[str, ...], found: tuple[str, ...], alike: bool) -> str:
    if not alike and len(found) < len(names):
        return f"{len(found)} of the network's {len(names)} classes, matched by name"
    if not alike:
        return "classes are in another order than the network's, and were matched by name"
    return "classes were matched by name, whatever their case, blanks and hyphens"


def _folded(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in " _-")


def _are_numbers(names: Sequence[str]) -> bool:
    return bool(names) and all(name.isascii() and name.isdecimal() for name in names)


def _are_numbered(names: Sequence[str]) -> bool:
    return tuple(names) == tuple(map(str, range(len(names))))


def _unmatched(names: tuple[str, ...], found: tuple[str, ...], title: str) -> DataError:
    unknown = [name for name in found if name not in names]
    return DataError(
        f"{title} has classes that the network has not: {listed(unknown, 3)} "
        f"({units.out_of(len(unknown), len(found))}); the network's {units.count(len(names))} are "
        f"{listed(names, 3)}: rename the class folders, or name the network's classes with "
        "--classes FILE"
    )

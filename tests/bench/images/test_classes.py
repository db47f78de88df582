"""Classes of images are matched with a network's by name; order counts only where it is said."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from foldbench.bench.errors import DataError
from foldbench.bench.images.classes import match_classes
from foldbench.bench.images.image_set import ImageSet, Split, make_image_set


def images_of(classes: Sequence[str], labels: Sequence[int] | None) -> ImageSet:
    count = 2 if labels is None else len(labels)
    test = Split(
        np.zeros((count, 3, 8, 8), np.uint8),
        None if labels is None else np.array(labels, np.int64),
    )
    counts = None if labels is None else tuple(np.bincount(labels, minlength=len(classes)).tolist())
    return make_image_set(
        *(None, test),
        name="images",
        title="photos",
        path=Path("photos"),
        classes=classes,
        original=False,
        started=0.0,
        test_class_counts=counts,
    )


CASES = [
    (("a", "b", "c"), ("a", "b", "c"), [0, 1, 2], [0, 1, 2], None),
    (("c", "a", "b"), ("a", "b", "c"), [0, 1, 2], [1, 2, 0], "another order"),
    (("a", "b", "c"), ("b", "c"), [0, 1], [1, 2], "2 of the network's 3"),
    (("great cat", "Dog"), ("dog", "great_cat"), [0, 1], [1, 0], "whatever their case"),
    (("0", "1", "2"), ("ape", "bee", "cow"), [0, 2], [0, 2], "sorted order"),
    (("ape", "bee", "cow"), ("0", "1", "2"), [0, 2], [0, 2], "labels are numbers"),
    (("0", "1", "2"), ("0", "2"), [0, 1], [0, 2], "matched by name"),
]


@pytest.mark.parametrize(("network", "found", "labels", "expected", "said"), CASES)
def test_labels_become_the_networks(network, found, labels, expected, said) -> None:
    matched = match_classes(network, images_of(found, labels))
    assert matched.test.require_labels().tolist() == expected
    assert matched.info.classes == network
    assert said in matched.info.class_mapping if said else matched.info.class_mapping is None
    counts = np.bincount(expected, minlength=len(network))
    assert matched.info.test_class_counts == tuple(counts.tolist())


def test_classes_of_one_name_are_no_obstacle_to_others() -> None:
    matched = match_classes(("crane", "tench", "crane"), images_of(("tench",), [0]))
    assert matched.test.require_labels().tolist() == [1]
    with pytest.raises(DataError):
        match_classes(("crane", "tench", "crane"), images_of(("crane",), [0]))


def test_folders_may_be_named_by_ids() -> None:
    names, ids = ("tench", "goldfish", "shark"), ("n01440764", "n01443537", "n01484850")
    images = images_of(("n01443537", "n01484850"), [0, 1])
    assert match_classes(names, images, class_ids=ids).test.require_labels().tolist() == [1, 2]
    with pytest.raises(DataError):
        match_classes(names, images)


@pytest.mark.parametrize(
    ("network", "found"),
    [(("a", "b"), ("a", "x")), (("0", "1", "2"), ("ape", "bee")), (("a", "b"), ("0", "5"))],
)
def test_classes_that_do_not_match_are_named_on_both_sides(network, found) -> None:
    with pytest.raises(DataError) as caught:
        match_classes(network, images_of(found, [0, 1]))
    assert all(name in str(caught.value) for name in (network[0], network[1], found[1]))


def test_two_names_that_differ_in_case_alone_are_never_confused() -> None:
    with pytest.raises(DataError):
        match_classes(("Cat", "cat", "dog"), images_of(("CAT", "dog"), [0, 1]))


def test_images_without_labels_fit_every_network() -> None:
    matched = match_classes(("a", "b"), images_of((), None))
    assert matched.info.classes == ("a", "b")
    assert matched.test.labels is None

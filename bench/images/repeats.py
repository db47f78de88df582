"""Images that are there more than once, where that makes an accuracy say less than it seems to."""

import hashlib
from dataclasses import dataclass

from foldbench.bench import units
from foldbench.bench.images.blocks import blocks_of
from foldbench.bench.images.image_set import Split
from foldbench.bench.records import LOUD_SHARE


@dataclass(frozen=True)
class Repeats:
    """Counts of images whose decoded pixels are the same."""

    tested_and_trained: int | None
    """Test images that are training images, too; None where those were not decoded."""
    of_two_classes: int
    """Images, of both splits, that are there under another class as well."""
    test_count: int
    count: int

    def describe(self) -> str | None:
        """Return one line about them; None where there are none."""
        found, is_loud = [], False
        if self.tested_and_trained:
            share = self.tested_and_trained / self.test_count
            seen = share > LOUD_SHARE
            is_loud |= seen
            found.append(
                f"{units.out_of(self.tested_and_trained, self.test_count)} test images "
                f"({units.percent(share)} %) are training images, too"
                f"{': the accuracy is not one on unseen images' * seen}"
            )
        if self.of_two_classes:
            is_loud |= self.of_two_classes > LOUD_SHARE * self.count
            found.append(
                f"{units.count(self.of_two_classes)} images are there under two classes: no "
                "network can have all of them right"
            )
        return f"{'WARNING: ' * is_loud}{'; '.join(found)}" if found else None


def find_repeats(train: Split | None, test: Split) -> Repeats:
    """Return how many decoded images are there twice where they must not be."""
    trained, tested = _digests(train) if train else [], _digests(test)
    classes: dict[bytes, set[int]] = {}
    for split, digests in ((train, trained), (test, tested)):
        labels = () if split is None or split.labels is None else split.labels.tolist()
        for label, digest in zip(labels, digests, strict=False):
            classes.setdefault(digest, set()).add(label)
    in_training = frozenset(trained)
    return Repeats(
        tested_and_trained=(
            sum(digest in in_training for digest in tested) if train is not None else None
        ),
        of_two_classes=sum(len(classes.get(digest, ())) > 1 for digest in (*trained, *tested)),
        test_count=len(tested),
        count=len(trained) + len(tested),
    )


def _digests(split: Split) -> list[bytes]:
    return [
        hashlib.blake2b(image.data, digest_size=16).digest()
        for block in blocks_of(split.images)
        for image in block
    ]

"""Warnings about the test images: those that were trained on, or that a batch holds twice."""

from collections.abc import Iterator, Mapping

from foldbench.bench.analysis.advice.rule import Advice, Rule, about, timed
from foldbench.bench.records import Run


def _find_trained_on(run: Run, kind: str) -> Iterator[Advice]:
    found, total = run.data.tested_and_trained, run.data.test_count
    if found:
        numbers = {"found_count": found, "images_count": total, "found_ratio": found / total}
        yield Advice(kind, severity=found / total, numbers=numbers)


def _find_two_classes(run: Run, kind: str) -> Iterator[Advice]:
    found, total = run.data.of_two_classes, run.data.train_count + run.data.test_count
    if found:
        yield Advice(
            kind, severity=found / total, numbers={"found_count": found, "images_count": total}
        )


def _find_large_batch(run: Run, kind: str) -> Iterator[Advice]:
    total = run.data.test_count
    for m, timing in timed(run):
        if timing.batch_size > total > 0:
            yield about(kind, m, timing, timing.batch_size / total, {"images_count": total})


IMAGE_RULES: Mapping[str, Rule] = {
    "trained_on": Rule(
        "accuracy",
        _find_trained_on,
        "{found_count} of {images_count} test images ({found_ratio}) are training images, too, "
        "pixel by pixel: the accuracy is not one on unseen images. Take them out of train/.",
    ),
    "two_classes": Rule(
        "accuracy",
        _find_two_classes,
        "{found_count} of {images_count} images are there under two classes, so no network can "
        "have all of them right. Take them out of one.",
    ),
    "large_batch": Rule(
        "latency",
        _find_large_batch,
        "{where}: there are {images_count} test images, so each batch holds some more than once. "
        "Give more images, or smaller numbers in compare.batch_sizes.",
    ),
}

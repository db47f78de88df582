"""Warnings about the test images: those that were trained on, or that a batch holds twice."""

from collections.abc import Iterator, Mapping

import numpy as np

from foldbench.bench.analysis.advice.rule import Advice, Number, Rule, about, timed
from foldbench.bench.analysis.paired import find_better_order, is_far_better
from foldbench.bench.analysis.speedups import completed, scored
from foldbench.bench.errors import listed
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


def _find_other_order(run: Run, kind: str) -> Iterator[Advice]:
    m = next(iter(scored(run)), None)
    if m is None or m.accuracy is None or not run.labels:
        return
    if len(m.accuracy.top1) != len(run.labels):
        return
    labels, answers = np.array(run.labels), np.array(m.accuracy.top1)
    names = run.checkpoint.classes
    found = find_better_order(labels, answers, len(names))
    if found is None:
        return
    shown = [f"{names[a]} is its {names[b]}" for a, b in found.moved[:3]]
    numbers: dict[str, Number] = {
        "stated_ratio": found.stated_correct / found.images,
        "better_ratio": found.correct / found.images,
        "moved": listed(shown, 3) + (", …" if len(found.moved) > 3 else ""),
    }
    yield Advice(kind, m.contender, severity=found.correct / found.images, numbers=numbers)


def _find_other_input(run: Run, kind: str) -> Iterator[Advice]:
    if any(_find_other_order(run, kind)):  # which explains it
        return
    for m in completed(run):
        better = [
            probe
            for probe in (m.accuracy.input_probes if m.accuracy else ())
            if is_far_better(probe.gained, probe.lost, probe.images)
        ]
        if better:
            best = max(better, key=lambda probe: probe.gained - probe.lost)
            numbers: dict[str, Number] = {
                "what": _WAYS[best.what],
                "images_count": best.images,
                "stated_ratio": best.stated_correct / best.images,
                "better_ratio": best.correct / best.images,
            }
            yield Advice(kind, m.contender, severity=best.gained / best.images, numbers=numbers)


_WAYS = {
    "swapped channels": "blue and red swapped (BGR)",
    "0..1": "pixels scaled to 0..1 (--mean 0 --std 1)",
    "0..255": "pixels of 0..255 as they are (--mean 0 --std 0.0039215686)",
    "-1..1": "pixels scaled to -1..1 (--mean 0.5 --std 0.5)",
    "ImageNet": "ImageNet's mean and std (--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225)",
}


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
    "other_order": Rule(
        "accuracy",
        _find_other_order,
        "WARNING: with its classes in another order the network would be right on {better_ratio} "
        "in place of {stated_ratio} ({moved}). The classes that it was given are probably not in "
        "the order in which it was trained: give them with --classes FILE.",
    ),
    "other_input": Rule(
        "accuracy",
        _find_other_input,
        "WARNING: with {what}, the network is right on {better_ratio} in place of {stated_ratio} "
        "of {images_count} images. Its input is probably made in another way than the one that it "
        "was trained with.",
    ),
    "large_batch": Rule(
        "latency",
        _find_large_batch,
        "{where}: there are {images_count} test images, so each batch holds some more than once. "
        "Give more images, or smaller numbers in compare.batch_sizes.",
    ),
}

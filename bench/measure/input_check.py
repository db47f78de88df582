"""Whether the network would answer far better if its input were made in another usual way.

Swapped channels and a forgotten normalisation cost accuracy without any error. On labelled images
the network is given both, in the process that is open anyway and in batches of the size that it has
seen, so that nothing about its later times changes.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np

from foldbench.bench.analysis.paired import is_far_better
from foldbench.bench.arrays import Labels, Rows
from foldbench.bench.errors import BackendError
from foldbench.bench.measure.evaluation import Evaluation
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import InputProbe, Preprocessing
from foldbench.bench.records.run import OtherInput

_FIRST_IMAGES, _MOST_IMAGES = 128, 500
_GOOD_ENOUGH = 0.95
"""Accuracy from which nothing can be far better."""
_HALF = (0.5, 0.5)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def check_input(
    contenders: Sequence[Contender],
    name: str,
    evaluation: Evaluation,
    preprocessing: Preprocessing,
    listener: ProgressListener,
) -> None:
    """Note in the result of the contender `name` what other inputs gave, and tell of a better one.

    Another contender stands in where that one does not run. Nothing is done without labels.
    """
    open_ones = [c for c in contenders if c.is_ok and c.worker and c.result.logits is not None]
    chosen = next((c for c in open_ones if c.name == name), next(iter(open_ones), None))
    if chosen is None or chosen.result.logits is None or evaluation.labels is None:
        return
    answers = chosen.result.logits[: evaluation.count].argmax(1)
    right = answers == evaluation.labels
    if right.mean() >= _GOOD_ENOUGH:
        return
    probes = []
    try:
        for what in other_inputs(preprocessing, evaluation.floats):
            probe = _probe(chosen, what, preprocessing, evaluation.labels, right, _FIRST_IMAGES)
            if is_far_better(probe.gained, probe.lost, probe.images):
                probe = _probe(chosen, what, preprocessing, evaluation.labels, right, _MOST_IMAGES)
            probes.append(probe)
    except BackendError as error:
        listener.note(f"whether other inputs would do better was not found out: {error}")
    chosen.result.input_probes = tuple(probes)


def other_inputs(preprocessing: Preprocessing, floats: bool) -> list[OtherInput]:
    """Return the usual ways to make an input that differ from how it is made."""
    stated = _numbers(preprocessing.mean), _numbers(preprocessing.std)
    ways: list[OtherInput] = ["swapped channels"] if preprocessing.input_shape[0] == 3 else []
    if floats:  # what the pixels were is not known
        return ways
    for what in ("0..1", "0..255", "-1..1", "ImageNet"):
        way: OtherInput = what  # type: ignore[assignment]
        found = normalisation_of(way, preprocessing)
        if found is not None and (_numbers(found[0]), _numbers(found[1])) != stated:
            ways.append(way)
    return ways


def normalisation_of(
    what: OtherInput, preprocessing: Preprocessing
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std of a way to make an input; None where it has none."""
    channels = preprocessing.input_shape[0]
    if what == "swapped channels":
        return preprocessing.mean, preprocessing.std
    if what == "ImageNet":
        return _IMAGENET if channels == 3 else None
    mean, std = {"0..1": (0.0, 1.0), "0..255": (0.0, 1 / 255), "-1..1": _HALF}[what]
    return (mean,) * channels, (std,) * channels


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 2) for value in values)


def _probe(
    contender: Contender,
    what: OtherInput,
    preprocessing: Preprocessing,
    labels: Labels,
    right: np.ndarray,
    images: int,
) -> InputProbe:
    size = min(contender.require_worker().batch_size(), len(labels))
    places = np.linspace(0, len(labels) - 1, min(len(labels), ceil(images / size) * size))
    rows: Rows = np.unique(places.round().astype(np.int64))
    mean, std = normalisation_of(what, preprocessing) or (preprocessing.mean, preprocessing.std)
    swapped = what == "swapped channels"
    logits = contender.require_worker().evaluate_as(rows, mean, std, swapped)
    now = logits.argmax(1) == labels[rows]
    return InputProbe(
        what=what,
        images=len(rows),
        stated_correct=int(right[rows].sum()),
        correct=int(now.sum()),
        gained=int((now & ~right[rows]).sum()),
        lost=int((~now & right[rows]).sum()),
    )

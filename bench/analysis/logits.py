"""How far the logits of two contenders are apart, and how sure a contender is."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from foldbench.bench.probabilities import are_probabilities, to_probabilities
from foldbench.bench.records import Agreement

_ROWS = 4096
"""Looked at together: the logits of all images may be a good part of the memory."""


def measure_agreement(reference: npt.NDArray, other: npt.NDArray) -> Agreement:
    """Return how far `other` is from `reference`; both (N, classes) of floats.

    An image whose logits are no numbers has no class, so it is not one of the same class.
    """
    scale = max(float(np.abs(reference[rows]).max()) for rows in _parts(len(reference))) or 1.0
    worst = max(
        float(np.abs(reference[rows].astype(np.float64) - other[rows]).max())
        for rows in _parts(len(reference))
    )
    nothing = np.isnan(reference).any(1) | np.isnan(other).any(1)
    return Agreement(
        images=len(reference),
        top1_equal=int(((reference.argmax(1) == other.argmax(1)) & ~nothing).sum()),
        max_abs_difference=worst,
        max_rel_difference=worst / scale,
    )


def measure_confidence(logits: npt.NDArray) -> float:
    """Return the mean probability of the predicted class; `logits` is (N, classes)."""
    already = are_probabilities(logits)
    total = sum(
        float(to_probabilities(logits[rows], already).max(1).sum(dtype=np.float64))
        for rows in _parts(len(logits))
    )
    return total / len(logits)


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))

"""How far the logits of two contenders are apart, and how sure a contender is."""

import numpy as np
import numpy.typing as npt

from foldbench.bench.probabilities import to_probabilities
from foldbench.bench.records import Agreement


def measure_agreement(reference: npt.NDArray, other: npt.NDArray) -> Agreement:
    """Return how far `other` is from `reference`; both (N, classes) of finite floats."""
    scale = float(np.abs(reference).max()) or 1.0
    worst = float(np.abs(reference.astype(np.float64) - other).max())
    return Agreement(
        images=len(reference),
        top1_equal=int((reference.argmax(1) == other.argmax(1)).sum()),
        max_abs_difference=worst,
        max_rel_difference=worst / scale,
    )


def measure_confidence(logits: npt.NDArray) -> float:
    """Return the mean probability of the predicted class; `logits` is (N, classes)."""
    return float(to_probabilities(logits).max(1).mean())

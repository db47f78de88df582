"""Whether a network's outputs are logits, or probabilities already (softmax at its end)."""

import numpy as np
import numpy.typing as npt

_ROUNDING = 1e-3
"""Of a sum of probabilities, in a lower precision too."""


def are_probabilities(outputs: npt.NDArray[np.floating]) -> bool:
    """Return whether every row of `outputs` (N, classes) holds probabilities that sum to 1."""
    sums = outputs.sum(axis=1, dtype=np.float64)
    return bool(len(outputs) and (outputs >= 0).all() and (np.abs(sums - 1) <= _ROUNDING).all())


def to_probabilities(
    outputs: npt.NDArray[np.floating], already: bool | None = None
) -> npt.NDArray[np.floating]:
    """Return the probabilities for `outputs` (N, classes): softmax of them, unless they are some.

    `already` says so where it is known of the network; otherwise the outputs tell.
    """
    from scipy.special import softmax

    if already is None:
        already = are_probabilities(outputs)
    return outputs if already else softmax(outputs, axis=1)

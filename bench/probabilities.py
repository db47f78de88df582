"""From logits to probabilities."""

import numpy as np
import numpy.typing as npt

from bench.backends import Floats


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Return ln of the probabilities, (N, classes) float64, for `logits` of the same shape."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


def softmax(logits: Floats) -> Floats:
    """Return probabilities (N, classes) float32 for `logits` of the same shape."""
    shares: Floats = np.exp(log_softmax(logits)).astype(np.float32)
    return shares

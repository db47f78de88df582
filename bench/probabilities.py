"""From logits to probabilities."""

import numpy as np

from bench.backends import Floats


def softmax(logits: Floats) -> Floats:
    """Return probabilities (N, classes) float32 for `logits` of the same shape."""
    raised = np.exp((logits - logits.max(1, keepdims=True)).astype(np.float64))
    shares: Floats = (raised / raised.sum(1, keepdims=True)).astype(np.float32)
    return shares

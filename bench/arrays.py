"""Arrays by what they hold."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
"""Images (N, C, H, W), features (N, D) or logits (N, classes)."""
Pixels = npt.NDArray[np.uint8]
"""Images (N, C, H, W) or one of them (C, H, W), RGB."""
Labels = npt.NDArray[np.int64]
"""(N,): indices into the classes."""

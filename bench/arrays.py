"""Arrays by what they hold."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
"""float32: images (N, C, H, W), features (N, D) or logits (N, classes)."""
Pixels = npt.NDArray[np.uint8]
"""uint8 RGB: images (N, C, H, W), or one of them (C, H, W)."""
Images = Pixels | Floats
"""(N, C, H, W): uint8, or float32 that is the network's input as it is."""
Labels = npt.NDArray[np.int64]
"""int64, (N,): indices into the classes."""
Rows = npt.NDArray[np.int64]
"""int64: indices of images, in order."""

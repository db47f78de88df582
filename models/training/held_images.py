"""The images that are trained on or validated with, all of them on the device."""

from dataclasses import dataclass

import torch
from torch import Tensor

from foldbench.bench.images.image_set import Split
from foldbench.bench.records import Preprocessing


@dataclass(frozen=True)
class HeldImages:
    """A split on the device."""

    images: Tensor
    """(N, C, H, W) uint8."""
    labels: Tensor
    """(N,) int64."""
    mean: Tensor
    std: Tensor
    """(C, 1, 1) float32."""

    def __len__(self) -> int:
        return len(self.labels)


def hold(split: Split, preprocessing: Preprocessing, device: torch.device) -> HeldImages:
    """Return a split with what normalises it, copied to `device`."""
    return HeldImages(
        images=torch.tensor(split.images, device=device),
        labels=torch.tensor(split.labels, device=device),
        mean=torch.tensor(preprocessing.mean, device=device)[:, None, None],
        std=torch.tensor(preprocessing.std, device=device)[:, None, None],
    )

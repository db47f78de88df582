"""A small residual network, of which an .onnx file is traced for batches of exactly four.

K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

BATCH = 4


class Residual(nn.Module):
    """(N, 3, 16, 16) -> (N, num_classes) logits."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.first, self.norm1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm0(self.stem(x)).relu()
        y = self.norm2(self.second(self.norm1(self.first(x)).relu()))
        return self.fc((x + y).relu().mean((2, 3)))


def write_onnx(network: nn.Module, path: Path) -> None:
    """Trace the network for four images of 16x16 pixels."""
    torch.onnx.export(
        network.eval(),
        (torch.zeros(BATCH, 3, 16, 16),),
        path,
        input_names=["image"],
        output_names=["scores"],
        dynamo=True,
        verbose=False,
        external_data=False,
    )

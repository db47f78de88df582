"""GhostNet: half of the channels by convolution, the others from them by cheap operations.

K. Han et al., GhostNet: More Features from Cheap Operations, CVPR 2020, arXiv:1911.11907.
"""

import torch
from torch import Tensor, nn


class Ghost(nn.Module):
    def __init__(self, inputs: int, outputs: int, relu: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        act = nn.ReLU if relu else nn.Identity
        self.primary = nn.Sequential(
            nn.Conv2d(inputs, half, 1, bias=False), nn.BatchNorm2d(half), act()
        )
        self.cheap = nn.Sequential(
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            act(),
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.primary(x)
        return torch.cat([first, self.cheap(first)], 1)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, middle: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expand = Ghost(inputs, middle)
        self.down = nn.Sequential()
        if stride > 1:
            self.down = nn.Sequential(
                nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False),
                nn.BatchNorm2d(middle),
            )
        self.project = Ghost(middle, outputs, relu=False)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.down(self.expand(x))) + self.shortcut(x)


class GhostNet(nn.Module):
    """(N, 3, H, W) -> (N, n_classes) logits; n_classes has no default."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.stages = nn.Sequential(Bottleneck(8, 16, 8, 1), Bottleneck(8, 24, 16, 2))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.stages(self.stem(x)).mean((2, 3)))

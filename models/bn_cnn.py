"""BNCNN, problem 4.2: three unpadded convolutions, each with BatchNorm and Mish."""

from functools import partial

from torch import Tensor, flatten, nn

from foldbench.models.building.norms import NormOf, make_norm

VERSION = 1
"""Raised whenever the same arguments give other parameters or another function."""


class BNCNN(nn.Module):
    """(N, C, H, W) float32 -> (N, classes) float32 logits, for H and W of 16 or more."""

    def __init__(self, channels: int, classes: int, norm: NormOf, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 7, bias=bias)
        self.bn1 = norm(32)
        self.mish = nn.Mish()
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=bias)
        self.bn2 = norm(64)
        self.conv3 = nn.Conv2d(64, 64, 3, bias=bias)
        self.bn3 = norm(64)
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.pool(self.mish(self.bn1(self.conv1(x))))
        x = self.mish(self.bn2(self.conv2(x)))
        x = self.mish(self.bn3(self.conv3(x)))
        return self.fc(flatten(self.avg_pool(x), 1))


def build(
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    norm: str = "batch",
    groups: int = 8,
    bias_before_norm: bool = True,
) -> nn.Module:
    """Return a BNCNN with PyTorch's default initial weights.

    `norm` takes BatchNorm's place (batch, layer, instance, group, none), `groups` is for group
    alone; `bias_before_norm` says whether the layers before it have a bias, which BatchNorm undoes.
    """
    after = partial(make_norm, norm, groups=groups)
    return BNCNN(input_shape[0], classes, after, bias_before_norm)

"""MishCNN, problem 4.1: three convolutions with Mish, no normalisation."""

from torch import Tensor, flatten, nn

from foldbench.models.building.norms import make_norm

VERSION = 1
"""Raised whenever the same arguments give other parameters or another function."""


class MishCNN(nn.Module):
    """(N, C, H, W) float32 -> (N, classes) float32 logits, for any H and W of 2 or more.

    The first pool comes before its activation, as in the homework's code. A normalisation, which
    the homework's has none of, comes directly after each convolution.
    """

    def __init__(
        self, channels: int, classes: int, *, norm: str, groups: int, bias_before_norm: bool
    ) -> None:
        super().__init__()

        def convolve(inputs: int, outputs: int, size: int) -> nn.Module:
            has_bias = bias_before_norm or norm == "none"
            layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=has_bias)
            # A bare layer without one: names of old checkpoints, and no call for nothing.
            return (
                layer
                if norm == "none"
                else nn.Sequential(layer, make_norm(norm, outputs, groups=groups))
            )

        self.conv1 = convolve(channels, 32, 7)
        self.mish = nn.Mish()
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = convolve(32, 64, 3)
        self.conv3 = convolve(64, 64, 3)
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.mish(self.pool(self.conv1(x)))
        x = self.mish(self.conv2(x))
        x = self.mish(self.conv3(x))
        return self.fc(flatten(self.avg_pool(x), 1))


def build(
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    norm: str = "none",
    groups: int = 8,
    bias_before_norm: bool = True,
) -> nn.Module:
    """Return a MishCNN with PyTorch's default initial weights.

    `norm` puts a normalisation after each convolution (batch, layer, instance, group), `groups` is
    for group alone; `bias_before_norm` says whether convolutions before one have a bias.
    """
    return MishCNN(
        input_shape[0], classes, norm=norm, groups=groups, bias_before_norm=bias_before_norm
    )

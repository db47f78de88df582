"""ConvMixer: depthwise and pointwise convolutions on patches, GELU before BatchNorm.

A. Trockman and J. Z. Kolter, Patches Are All You Need?, TMLR 2023, arXiv:2201.09792.
"""

from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def _after(convolution: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.GELU(), nn.BatchNorm2d(channels))


class ConvMixer(nn.Sequential):
    """(N, 3, H, W) -> (N, num_classes) logits."""

    def __init__(self, num_classes: int = 4, dim: int = 12, depth: int = 2, kernel: int = 5):
        mixers = [
            nn.Sequential(
                Residual(_after(nn.Conv2d(dim, dim, kernel, groups=dim, padding="same"), dim)),
                _after(nn.Conv2d(dim, dim, 1), dim),
            )
            for _ in range(depth)
        ]
        super().__init__(
            _after(nn.Conv2d(3, dim, 4, 4), dim),
            *mixers,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(dim, num_classes),
        )

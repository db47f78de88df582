"""DeepMishCNN, problem 4.3: six convolutions, three linear layers, BatchNorm and Mish."""

from itertools import pairwise

from torch import Tensor, nn

_HIDDEN = 512


def _stage(channels_in: int, channels_out: int) -> list[nn.Module]:
    """Return two convolutions with BatchNorm and Mish, and a pool that halves height and width."""
    layers: list[nn.Module] = []
    for before, after in pairwise((channels_in, channels_out, channels_out)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.Mish()]
    return [*layers, nn.MaxPool2d(2, 2)]


class DeepMishCNN(nn.Module):
    """(N, C, H, W) float32 -> (N, classes) float32 logits; H and W are fixed at construction.

    As the homework's code has it, not its prose: filters 64-64-128-128-256-256, three pools, a
    classifier with BatchNorm1d, no dropout, no softmax.
    """

    def __init__(self, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*_stage(channels, 64), *_stage(64, 128), *_stage(128, 256))
        self.classifier = nn.Sequential(
            nn.Linear(256 * (height // 8) * (width // 8), _HIDDEN),
            nn.BatchNorm1d(_HIDDEN),
            nn.Mish(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.BatchNorm1d(_HIDDEN),
            nn.Mish(),
            nn.Linear(_HIDDEN, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.features(x).flatten(1))


def build(*, classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Return a DeepMishCNN with PyTorch's default initial weights."""
    return DeepMishCNN(*input_shape, classes)

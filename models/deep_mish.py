"""DeepMishCNN, problem 4.3: six convolutions, three linear layers, BatchNorm and Mish."""

from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from foldbench.models.building.norms import NormOf, make_norm

VERSION = 1
"""Raised whenever the same arguments give other parameters or another function."""

_HIDDEN = 512


class DeepMishCNN(nn.Module):
    """(N, C, H, W) float32 -> (N, classes) float32 logits; H and W are fixed at construction.

    As the homework's code has it, not its prose: filters 64-64-128-128-256-256, three pools, a
    classifier with BatchNorm1d, no dropout, no softmax.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, norm: NormOf, bias: bool
    ) -> None:
        super().__init__()
        channels, height, width = input_shape

        def stage(inputs: int, outputs: int) -> list[nn.Module]:
            """Return two convolutions and a pool that halves height and width."""
            layers: list[nn.Module] = []
            for i, o in pairwise((inputs, outputs, outputs)):
                convolution = nn.Conv2d(i, o, 3, padding=1, bias=bias)
                layers += [convolution, norm(o), nn.Mish()]
            return [*layers, nn.MaxPool2d(2, 2)]

        def hidden(inputs: int) -> list[nn.Module]:
            layer = nn.Linear(inputs, _HIDDEN, bias=bias)
            return [layer, norm(_HIDDEN, spatial=False), nn.Mish()]

        self.features = nn.Sequential(*stage(channels, 64), *stage(64, 128), *stage(128, 256))
        self.classifier = nn.Sequential(
            *hidden(256 * (height // 8) * (width // 8)),
            *hidden(_HIDDEN),
            nn.Linear(_HIDDEN, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.features(x).flatten(1))


def build(
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    norm: str = "batch",
    groups: int = 8,
    bias_before_norm: bool = True,
) -> nn.Module:
    """Return a DeepMishCNN with PyTorch's default initial weights.

    `norm` takes BatchNorm's place (batch, layer, instance, group, none), `groups` is for group
    alone; `bias_before_norm` says whether the layers before it have a bias, which BatchNorm undoes.
    """
    after = partial(make_norm, norm, groups=groups)
    return DeepMishCNN(input_shape, classes, after, bias_before_norm)

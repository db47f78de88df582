"""Initial weights other than PyTorch's own."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

_REGULARISER = 5e-4
"""Added to every variance, so that directions with next to none are not blown up."""


def start_as_identity(model: nn.Module) -> None:
    """Have every convolution begin by passing on its inputs as they are, as many as it can.

    Filter i becomes channel i of the input, at the kernel's centre; the filters beyond the number
    of inputs keep their random weights (K. Jordan, 94 % on CIFAR-10 in 3.29 seconds on a single
    GPU, arXiv:2404.00498, 2024). Grouped convolutions are left as they are.
    """
    for convolution in _convolutions(model):
        filters = convolution.weight.data[: convolution.in_channels]
        nn.init.dirac_(filters)


def start_as_whitening(model: nn.Module, images: Tensor) -> None:
    """Have the first convolution begin by whitening the patches of `images`.

    `images` is (N, C, H, W) float32, as the network is given them. Filters become the directions in
    which patches vary most, scaled to variance one, and then the same ones negated; what is left
    over keeps its random weights (K. Jordan, arXiv:2404.00498, 2024, section 3.2, whose filters are
    not trained on; here they are).
    """
    first = next(_convolutions(model), None)
    if first is None:
        return
    patches = nn.functional.unfold(images, first.kernel_size)  # (N, C h w, places)
    variables = patches.transpose(0, 1).flatten(1).double()
    variances, directions = torch.linalg.eigh(torch.cov(variables))
    scaled = (directions / (variances + _REGULARISER).sqrt()).T.flip(0)
    half = scaled[: first.out_channels // 2]
    filters = torch.cat([half, -half]).to(first.weight)
    first.weight.data[: len(filters)] = filters.reshape(-1, *first.weight.shape[1:])


def _convolutions(model: nn.Module) -> Iterator[nn.Conv2d]:
    return (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1)

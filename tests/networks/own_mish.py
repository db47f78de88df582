"""A network with a Mish of its own, a torch.autograd.Function that keeps less for the gradient.

D. Misra, Mish: A Self Regularized Non-Monotonic Activation Function, BMVC 2020, arXiv:1908.08681.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MishFunction(torch.autograd.Function):
    """x tanh(log(1 + exp(x)))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.tanh(F.softplus(x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        inner = torch.tanh(F.softplus(x))
        return gradient * (inner + x * torch.sigmoid(x) * (1 - inner * inner))


class Mish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return MishFunction.apply(x)


class MishNet(nn.Module):
    """(N, 3, H, W) -> (N, num_classes) logits."""

    def __init__(self, num_classes: int = 4, widths: tuple[int, ...] = (8, 16)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *widths), widths, strict=False):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                Mish(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))

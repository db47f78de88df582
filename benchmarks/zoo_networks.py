"""Networks of the zoo that no library has as they are: own activations, deploy forms.

Built by foldbench as a user's own code, with the arguments that `benchmarks.zoo` gives.
"""

import math

import timm
import torch
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

SEED = 0


class HandGelu(nn.Module):
    """GELU as many networks have it written out, by its tanh formula (arXiv 1606.08415)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return GELU of `x`, element by element."""
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
        return 0.5 * x * (1 + torch.tanh(inner))


class HandSwish(nn.Module):
    """Swish as many networks have it written out (arXiv 1710.05941)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x * sigmoid(x)``, element by element."""
        return x * torch.sigmoid(x)


_ACTIVATIONS = {"mish": nn.Mish, "gelu": HandGelu, "swish": HandSwish}
_REPLACED = ("ReLU", "ReLU6", "LeakyReLU", "GELU")


def with_activation(arch: str, activation: str) -> nn.Module:
    """Return timm's network with every activation of its blocks replaced."""
    torch.manual_seed(SEED)
    network = timm.create_model(arch)
    _replace(network, _ACTIVATIONS[activation])
    return network


def deploy(arch: str) -> nn.Module:
    """Return timm's network in its own deploy form: branches merged by timm."""
    torch.manual_seed(SEED)
    return reparameterize_model(timm.create_model(arch).eval())


def _replace(module: nn.Module, activation: type[nn.Module]) -> None:
    for name, child in module.named_children():
        if type(child).__name__ in _REPLACED:  # timm has a GELU of its own
            setattr(module, name, activation())
        else:
            _replace(child, activation)

"""Capsules: vectors routed by agreement, with two heads: the classes, and the image again.

S. Sabour et al., Dynamic Routing Between Capsules, NeurIPS 2017, arXiv:1710.09829.
"""

import torch
from torch import Tensor, nn

_ROUTINGS = 2


def _squash(vectors: Tensor) -> Tensor:
    """Return the vectors (..., D) with lengths below 1."""
    squared = (vectors * vectors).sum(-1, keepdim=True)
    return vectors * squared / ((1 + squared) * (squared + 1e-7).sqrt())


class Capsules(nn.Module):
    """(N, 3, 16, 16) -> (lengths of the class capsules (N, C), the image again (N, 3, 16, 16))."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU())
        self.primary = nn.Conv2d(16, 16, 3, 2, 1)
        self.routes = nn.Parameter(0.1 * torch.randn(64, num_classes, 4, 6))
        self.decoder = nn.Sequential(
            nn.Linear(6 * num_classes, 32), nn.ReLU(), nn.Linear(32, 3 * 16 * 16), nn.Tanh()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        primary = self.primary(self.features(x)).reshape(-1, 4, 4, 16).permute(0, 2, 3, 1)
        votes = torch.einsum("nid,icde->nice", _squash(primary.reshape(-1, 64, 4)), self.routes)
        logits = torch.zeros_like(votes[..., 0])
        for step in range(_ROUTINGS):
            capsules = _squash((logits.softmax(2)[..., None] * votes).sum(1))
            if step + 1 < _ROUTINGS:
                logits = logits + (votes * capsules[:, None]).sum(-1)
        lengths = (capsules * capsules).sum(-1).add(1e-7).sqrt()
        return lengths, self.decoder(capsules.flatten(1)).reshape(-1, 3, 16, 16)

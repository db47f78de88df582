"""LeNet-5 for images of one channel, 28x28 pixels.

Y. LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86, 1998.
"""

from torch import Tensor, nn


class LeNet(nn.Module):
    """(N, 1, 28, 28) -> (N, 10) logits: takes no arguments at all."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c3 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.c5, self.f6, self.output = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.pool, self.tanh = nn.AvgPool2d(2), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.tanh(self.c1(x)))
        x = self.pool(self.tanh(self.c3(x))).flatten(1)
        return self.output(self.tanh(self.f6(self.tanh(self.c5(x)))))

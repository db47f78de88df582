"""MishCNN, problem 4.1: three convolutions with Mish, no normalisation."""

from torch import Tensor, flatten, nn


class MishCNN(nn.Module):
    """(N, C, H, W) float32 -> (N, classes) float32 logits, for any H and W of 2 or more.

    The first pool comes before its activation, as in the homework's code.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 7, padding=3)
        self.mish = nn.Mish()
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.mish(self.pool(self.conv1(x)))
        x = self.mish(self.conv2(x))
        x = self.mish(self.conv3(x))
        return self.fc(flatten(self.avg_pool(x), 1))


def build(*, classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Return a MishCNN with PyTorch's default initial weights."""
    return MishCNN(input_shape[0], classes)

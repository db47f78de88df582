"""BNCNN, problem 4.2: three unpadded convolutions, each with BatchNorm and Mish."""

from torch import Tensor, flatten, nn


class BNCNN(nn.Module):
    """(N, C, H, W) float32 -> (N, classes) float32 logits, for H and W of 16 or more."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 7)
        self.bn1 = nn.BatchNorm2d(32)
        self.mish = nn.Mish()
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.bn3 = nn.BatchNorm2d(64)
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.pool(self.mish(self.bn1(self.conv1(x))))
        x = self.mish(self.bn2(self.conv2(x)))
        x = self.mish(self.bn3(self.conv3(x)))
        return self.fc(flatten(self.avg_pool(x), 1))


def build(*, classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Return a BNCNN with PyTorch's default initial weights."""
    return BNCNN(input_shape[0], classes)

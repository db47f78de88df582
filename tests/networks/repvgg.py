"""RepVGG: three branches in training, one convolution after the switch to deployment.

X. Ding et al., RepVGG: Making VGG-style ConvNets Great Again, CVPR 2021, arXiv:2101.03697.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RepBlock(nn.Module):
    """relu(bn(conv3x3(x)) + bn(conv1x1(x)) + bn(x)), the last where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, deploy: bool) -> None:
        super().__init__()
        self.stride = stride
        if deploy:
            self.reparam = nn.Conv2d(inputs, outputs, 3, stride, 1)
            return
        self.conv3, self.norm3 = self._branch(inputs, outputs, 3)
        self.conv1, self.norm1 = self._branch(inputs, outputs, 1)
        self.norm0 = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None

    def _branch(self, inputs: int, outputs: int, size: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        conv = nn.Conv2d(inputs, outputs, size, self.stride, size // 2, bias=False)
        return conv, nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "reparam"):
            return F.relu(self.reparam(x))
        y = self.norm3(self.conv3(x)) + self.norm1(self.conv1(x))
        return F.relu(y if self.norm0 is None else y + self.norm0(x))

    def switch_to_deploy(self) -> None:
        """Put all branches into one convolution, and drop them."""
        size = self.conv3.weight.shape[:2]
        kernel, bias = self._fused(self.conv3.weight, self.norm3)
        one, shift = self._fused(F.pad(self.conv1.weight, [1, 1, 1, 1]), self.norm1)
        kernel, bias = kernel + one, bias + shift
        if self.norm0 is not None:
            same = torch.zeros_like(self.conv3.weight)
            same[range(size[0]), range(size[1]), 1, 1] = 1
            one, shift = self._fused(same, self.norm0)
            kernel, bias = kernel + one, bias + shift
        self.reparam = nn.Conv2d(size[1], size[0], 3, self.stride, 1)
        self.reparam.weight.data, self.reparam.bias.data = kernel.detach(), bias.detach()
        for name in ("conv3", "norm3", "conv1", "norm1", "norm0"):
            delattr(self, name)

    @staticmethod
    def _fused(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return kernel * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class RepVGG(nn.Module):
    """(N, 3, H, W) -> (N, num_classes) logits."""

    def __init__(self, num_classes: int = 4, width: int = 8, deploy: bool = False) -> None:
        super().__init__()
        plan = [(3, width, 2), (width, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1)]
        self.blocks = nn.Sequential(*(RepBlock(*step, deploy) for step in plan))
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((2, 3)))

    def switch_to_deploy(self) -> "RepVGG":
        """Change each block into one convolution; the outputs stay."""
        for block in self.blocks:
            block.switch_to_deploy()
        return self

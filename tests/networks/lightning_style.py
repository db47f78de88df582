"""An All-CNN, trained by code that wraps it as Lightning does: its names begin with ``model.``.

J. T. Springenberg et al., Striving for Simplicity: The All Convolutional Net, arXiv:1412.6806.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def _layers(dropout: float, num_classes: int) -> Iterator[nn.Module]:
    yield nn.Dropout(dropout)
    for inputs, outputs, stride in ((3, 8, 1), (8, 8, 2), (8, 16, 1), (16, 16, 2)):
        yield nn.Conv2d(inputs, outputs, 3, stride, 1)
        yield nn.ReLU()
    yield nn.Conv2d(16, num_classes, 1)
    yield nn.AdaptiveAvgPool2d(1)
    yield nn.Flatten()


class AllCNN(nn.Module):
    """(N, 3, H, W) -> (N, num_classes) logits."""

    def __init__(self, num_classes: int = 4, dropout: float = 0.2) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layers(dropout, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Training(nn.Module):
    """What is trained: the network and what it is trained with."""

    def __init__(self, lr: float = 0.1, **options: Any) -> None:
        super().__init__()
        self.hyper_parameters = {"lr": lr, **options}
        self.model = AllCNN(**options)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def checkpoint(self) -> dict[str, Any]:
        """Return what such a training writes."""
        return {
            "epoch": 3,
            "global_step": 120,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": self.state_dict(),
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint{'monitor': 'val_acc'}": {"best_model_path": "a.ckpt"}},
            "optimizer_states": [{"state": {0: {"step": 120}}, "param_groups": [{"lr": 0.1}]}],
            "lr_schedulers": [{"last_epoch": 3}],
            "hparams_name": "kwargs",
            "hyper_parameters": self.hyper_parameters,
        }

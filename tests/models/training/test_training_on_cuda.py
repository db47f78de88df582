"""Training on a GPU: it learns what the CPU learns, in the precision that the config says."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foldbench.bench.config.training import TrainSection
from foldbench.bench.images.image_set import Split
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Epoch, Preprocessing
from foldbench.models.training.loop import train_model

PREPROCESSING = Preprocessing(input_shape=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


class Network(nn.Module):
    """Two classes from 8x8 images, without dropout, whose draws a GPU makes by itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 3)
        self.rest = nn.Sequential(nn.BatchNorm2d(8), nn.Mish(), nn.Flatten(), nn.Linear(288, 2))
        self.seen: set[tuple[bool, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add(tf32())
        logits: Tensor = self.rest(self.convolution(x))
        return logits


def tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def train(model: nn.Module, **options: Any) -> tuple[Epoch, ...]:
    random = np.random.default_rng(0)
    labels = np.arange(256) % 2
    images = random.integers(0, 200, (256, 3, 8, 8)) + 40 * labels[:, None, None, None]
    return train_model(
        model,
        Split(images.astype(np.uint8), labels.astype(np.int64)),
        None,
        settings=TrainSection.model_validate(
            {"epochs": 3, "batch_size": 32, "learning_rate": 0.003, "device": "cpu", **options}
        ),
        preprocessing=PREPROCESSING,
        seed=0,
        resume=None,
        listener=NullListener(),
    )


def test_tf32_is_off_while_training_and_as_it_was_after() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = tf32()
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = True
        model = Network()
        train(model)
        assert model.seen == {(False, False)}
        assert tf32() == (True, True)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_learns_what_the_cpu_learns() -> None:
    losses = [[e.loss for e in train(Network(), device=device)] for device in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    "options",
    [
        {"compile": "mish"},
        {"compile": "model"},
        {"precision": "bfloat16", "channels_last": True},
        {"optimizer": "muon", "learning_rate": 0.01, "ema_decay": 0.9, "micro_batches": 2},
    ],
    ids=["compiled Mish", "compiled whole", "bfloat16", "Muon"],
)
def test_a_gpu_learns_by_every_other_setting_of_the_recipes(options: dict[str, Any]) -> None:
    model = Network()
    epochs = train(model, device="cuda", **options)
    assert next(model.parameters()).device.type == "cuda"
    assert epochs[-1].loss < 0.9 * epochs[0].loss

"""Where a network is trained, and how its images and weights lie in memory there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from foldbench.bench import torchrun
from foldbench.bench.config.training import TrainSection
from foldbench.bench.errors import TrainingError


def pick_device(asked: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``; raise TrainingError without a GPU.

    Of several processes on one machine, each has a GPU of its own.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "train.device is cuda, but torch sees no CUDA device here: "
            "set train.device to auto or cpu, or check the driver with nvidia-smi"
        )
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cpu":
        return torch.device("cpu")
    found, own = torch.cuda.device_count(), torchrun.local_rank()
    if own >= found:
        raise TrainingError(
            f"torchrun started process {own + 1} on a machine with {found} CUDA devices: "
            f"set --nproc-per-node to {found}, or train.device to cpu"
        )
    return torch.device("cuda", own)


def layout(settings: TrainSection) -> torch.memory_format:
    """Return how images and weights lie in memory."""
    return torch.channels_last if settings.channels_last else torch.contiguous_format


@contextmanager
def plain_float32() -> Iterator[None]:
    """Have CUDA compute float32 in float32 until the block ends.

    torch's convolutions would take TF32 (10 bits of a number in place of 23) without being asked.
    The fastest of cuDNN's algorithms is searched for, as in a comparison.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = False, False, True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before

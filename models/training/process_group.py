"""One training by several processes: each takes its share of every batch.

torchrun starts them, torch's DistributedDataParallel averages their gradients. A batch is drawn
and augmented as one process alone would, then shared out, so that the number of processes changes
nothing but the order of sums, the statistics of BatchNorm, which each process takes over its own
share, and a last batch of less than two images for each process, which joins the one before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from foldbench.bench import torchrun
from foldbench.models.building.outputs import logits_of


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together (data parallel), seen from one of them."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which validates, logs and saves."""
        return self.rank == 0

    def wrap(self, model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
        """Return `model` wrapped so that gradients are averaged over all processes.

        Every process starts with the parameters of rank 0. Parameters that the logits do not depend
        on, such as those of an auxiliary classifier, stay without gradients, as in one process.
        """
        if self.size == 1:
            return model
        unused = has_unused_parameters(model, input_shape)
        return DistributedDataParallel(model, find_unused_parameters=unused)

    def shard(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch along its first dimension.

        The shares of all processes are the batch; their sizes differ by one at most.
        """
        return batch.tensor_split(self.size)[self.rank]

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Return the sum of `value`, a number, over all processes, on every process."""
        if self.size > 1:
            value = value.clone()
            torch.distributed.all_reduce(value)
        return value

    def broadcast_text(self, text: str) -> str:
        """Return rank 0's text on every process."""
        if self.size == 1:
            return text
        encoded = list(text.encode())
        size = self.all_reduce_sum(torch.tensor(len(encoded) if self.is_main else 0))
        content = torch.zeros(int(size), dtype=torch.uint8)
        if self.is_main:
            content.copy_(torch.tensor(encoded, dtype=torch.uint8))
        torch.distributed.broadcast(content, src=0)
        return bytes(content.tolist()).decode()


def has_unused_parameters(model: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Return whether the logits of two images leave a parameter without a gradient in train mode.

    The model and random numbers are left as they were.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    was_training = model.training
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            model.train()
            logits = logits_of(model(torch.rand(2, *input_shape, device=device)))
            found = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    finally:
        model.load_state_dict(before)
        model.train(was_training)
    return any(gradient is None for gradient in found)


@contextmanager
def join_process_group() -> Iterator[ProcessGroup]:
    """Yield the group of the processes that torchrun started; a group of one without it."""
    size = torchrun.world_size()
    if size == 1:
        yield ProcessGroup()
        return
    has_gpu = torch.cuda.is_available()
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if has_gpu else "gloo")
    try:
        yield ProcessGroup(torchrun.rank(), size)
    finally:
        torch.distributed.destroy_process_group()

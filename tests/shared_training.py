"""One small training by several processes, which tests start and gloo connects."""

from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, nn

from builders import run_training
from foldbench.models.training.process_group import ProcessGroup


class Heads(nn.Module):
    """(N, 3, 8, 8) -> logits (N, 2), with those of an auxiliary classifier where it has one."""

    def __init__(self, auxiliary: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU())
        self.head = nn.Linear(5, 2)
        self.auxiliary = nn.Linear(5, 2) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the logits, or both."""
        y = self.body(x)
        return self.head(y) if self.auxiliary is None else (self.head(y), self.auxiliary(y))


def train(connection: Connection, rank: int, size: int, folder: Path, auxiliary: bool) -> None:
    """Train as one of `size` processes that meet in `folder`; send the losses and the weights."""
    store = torch.distributed.FileStore(str(folder / "store"), size)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    torch.manual_seed(0)
    model = Heads(auxiliary)
    history = run_training(folder / f"{rank}", model, process_group=ProcessGroup(rank, size))
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    connection.send(([epoch.loss for epoch in history], weights))
    torch.distributed.destroy_process_group()

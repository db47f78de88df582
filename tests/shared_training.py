"""One small training by several processes, which tests start and gloo connects."""

from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, nn

from builders import run_training
from foldbench.models.training.process_group import ProcessGroup

Trained = tuple[list[float], dict[str, list]]


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


def train_both(folder: Path, process_group: ProcessGroup) -> list[Trained]:
    """Train without and with the auxiliary classifier; return losses and weights of each."""
    found = []
    for auxiliary in (False, True):
        torch.manual_seed(0)
        model = Heads(auxiliary)
        place = folder / f"{auxiliary}-{process_group.rank}"
        history = run_training(place, model, process_group=process_group)
        weights = {name: value.tolist() for name, value in model.state_dict().items()}
        found.append(([epoch.loss for epoch in history], weights))
    return found


def train(connection: Connection, rank: int, size: int, folder: Path) -> None:
    """Be one of `size` processes that meet in `folder` and train; send what came of it."""
    store = torch.distributed.FileStore(str(folder / "store"), size)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    connection.send(train_both(folder, ProcessGroup(rank, size)))
    torch.distributed.destroy_process_group()

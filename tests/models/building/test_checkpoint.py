"""Weights on disk are those of the network that was trained, or nothing is recorded."""

from pathlib import Path

import pytest
import torch
from torch import nn

from foldbench.bench.errors import CheckpointError
from foldbench.bench.store.directory import RunDirectory
from foldbench.models.building.checkpoint import (
    decode_weights,
    load_checkpoint,
    prove_checkpoint,
    save_weights,
)
from foldbench.models.building.foreign_weights import fit_weights, load_state


def test_weights_of_another_network_than_the_trained_one_are_refused(
    own_run: RunDirectory,
) -> None:
    checkpoint, x = own_run.checkpoint(), torch.randn(4, 3, 32, 32)
    trained = load_checkpoint(checkpoint, own_run.path)
    prove_checkpoint(trained, checkpoint, own_run.path, x)
    with torch.no_grad():
        trained.bn2.running_mean += 1
    with pytest.raises(CheckpointError, match="the network answers otherwise"):
        prove_checkpoint(trained, checkpoint, own_run.path, x)


class Numbered(nn.Module):
    """A network that numbers the form of its state, as torchvision's MNASNet does."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))

    def _load_from_state_dict(self, state, prefix, metadata, *rest) -> None:
        if metadata.get("version") != 2:
            raise ValueError(f"version should be 2 instead of {metadata.get('version')}")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_parts_that_number_their_state_load_what_was_saved(tmp_path: Path) -> None:
    network, again, third = Numbered(), Numbered(), Numbered()
    save_weights(network, tmp_path / "own.safetensors")
    load_state(again, decode_weights((tmp_path / "own.safetensors").read_bytes()))
    load_state(third, fit_weights(third, tmp_path / "own.safetensors").state)
    for loaded in (again, third):
        assert torch.equal(loaded.fc.weight, network.fc.weight)

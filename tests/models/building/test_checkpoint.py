"""Weights on disk are those of the network that was trained, or nothing is recorded."""

import pytest
import torch

from foldbench.bench.errors import CheckpointError
from foldbench.bench.store.directory import RunDirectory
from foldbench.models.building.checkpoint import load_checkpoint, prove_checkpoint


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

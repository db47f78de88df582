"""What a network keeps in its modules is not in its weights: another process shows it."""

from pathlib import Path

import pytest

from foldbench.bench.config.files import load
from foldbench.bench.config.own_network import source_config
from foldbench.bench.errors import BenchError, CheckpointError, ConfigError
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.add import add
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, list_runs
from foldbench.models.building.checkpoint import load_checkpoint

CODE = """
import torch
from torch import nn

SHIFT, DRAWN, CALLS = {}, {}, []

class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.head = nn.Linear(192, num_classes)

    def forward(self, x):
        return self.head(self.shifted(x.flatten(1)))

    def shifted(self, x):
        return x

class Learns(Net):
    images = 1

    def shifted(self, x):
        if self.training and len(x) >= self.images:
            SHIFT["mean"] = x.detach().mean(0) + 0.5
        return x - SHIFT.get("mean", 0)

class LearnsLate(Learns):
    images = 8

class Draws(Net):
    def shifted(self, x):
        return x * DRAWN.setdefault("scale", torch.randn(192))

class DropsAlways(Net):
    def shifted(self, x):
        return nn.functional.dropout(x, 0.5, True)

def crash():
    import os
    os._exit(7)
"""
OVERRIDES = (
    "data.name=digits",
    "data.image_size=8",
    "data.subset=200",
    "train.epochs=1",
    "train.batch_size=32",
    "train.device=cpu",
    "train.threads=1",
)


def stored(folder: Path, attribute: str, paths: Paths, work: str) -> None:
    """Train or add the network `attribute` of a file that nobody has imported."""
    (folder / "net.py").write_text(CODE)
    loaded = source_config(f"{folder / 'net.py'}:{attribute}", OVERRIDES)
    (train if work == "train" else add)(loaded, paths, NullListener())


def test_state_of_a_module_is_found_before_training(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(CheckpointError, match="another process"):
        stored(tmp_path, "Learns", paths, "train")
    assert not list_runs(paths.runs)


def test_state_of_a_module_that_training_alone_gives_is_no_finished_training(
    tmp_path: Path, paths: Paths
) -> None:
    with pytest.raises(CheckpointError, match="another process"):
        stored(tmp_path, "LearnsLate", paths, "train")
    assert not any(run.is_trained() for run in list_runs(paths.runs))


def test_state_of_a_module_is_found_when_a_network_is_added(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(CheckpointError, match="another process"):
        stored(tmp_path, "Draws", paths, "add")
    assert not list_runs(paths.runs)


def test_a_crash_while_it_is_tried_out_is_one_line_and_leaves_nothing(
    tmp_path: Path, paths: Paths
) -> None:
    with pytest.raises(ConfigError, match=r"exit code 7"):
        stored(tmp_path, "crash", paths, "train")
    assert not list_runs(paths.runs)


def test_a_network_that_draws_at_random_is_loaded_as_it_is(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldbench.bench.stages.add.run_isolated", lambda call, *args: call(*args))
    stored(tmp_path, "DropsAlways", paths, "add")
    (run,) = list_runs(paths.runs)
    assert not load_checkpoint(run.checkpoint(), run.path).training


def test_a_training_that_cannot_begin_leaves_no_run(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load("digits", ["train.device=cuda"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BenchError, match="cuda"):
        train(loaded, paths, NullListener())
    assert not list(paths.runs.glob("digits-*"))

"""Several processes that train one network, started by torchrun on the CPU."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import shared_training
from foldbench.bench import torchrun
from foldbench.bench.config.files import load
from foldbench.bench.errors import TrainingError
from foldbench.bench.progress import NullListener
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, RunDirectory, list_runs
from foldbench.bench.workers.starting import start
from foldbench.models.building.outputs import logits_of
from foldbench.models.training.batches import split_batches
from foldbench.models.training.device import pick_device
from foldbench.models.training.process_group import ProcessGroup

RunBench = Callable[..., tuple[int, str, str]]

# The last 5 of 145 images are a batch of their own: shares of 3 and 2.
SETTINGS = (
    "train.epochs=2",
    "train.batch_size=20",
    "train.validation_fraction=0.1",
    "train.ema_decay=0.5",
    "train.schedule={name: one_cycle}",
    "train.threads=1",
    "data.image_size=16",
    "data.subset=145",
)


def torchrun_bench(paths: Paths, *arguments: str) -> tuple[int, str, str]:
    """Run bench in two processes; return the exit code, stdout and stderr."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "foldbench", *arguments]
    paths.runs.mkdir(parents=True, exist_ok=True)
    folders = {"FOLDBENCH_RUNS": str(paths.runs), "FOLDBENCH_CACHE": str(paths.cache)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | folders, timeout=300, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def as_by_torchrun(tmp_path: Path, start_bench) -> RunBench:
    """Two processes that have torch loaded, and are told what torchrun tells its own."""

    def run(paths: Paths, *arguments: str) -> tuple[int, str, str]:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        given = {
            **{"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            **{"FOLDBENCH_RUNS": str(paths.runs), "FOLDBENCH_CACHE": str(paths.cache)},
        }
        said = [tmp_path / f"said by {rank}" for rank in range(2)]
        processes = [
            start_bench(folder, *arguments, **given, RANK=str(rank), LOCAL_RANK=str(rank))
            for rank, folder in enumerate(said)
        ]
        code = max(process.wait(timeout=300) for process in processes)
        out, err = (
            "".join((folder / name).read_text() for folder in said) for name in ("stdout", "stderr")
        )
        return code, out, err

    return run


def train_in_two(run_bench: RunBench, paths: Paths, *overrides: str) -> tuple[RunDirectory, str]:
    """Train digits in two processes; return the only run there is and what was said."""
    code, out, err = run_bench(paths, "train", "digits", *(f"--set={text}" for text in overrides))
    assert code == 0, err
    assert out.count("weights:") == 1, "one process alone speaks"
    (run,) = list_runs(paths.runs)
    return run, err


def weights_of(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(run.path / run.checkpoint().weights)


@pytest.fixture
def other_paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "other", tmp_path / "cache")


def test_two_processes_end_where_one_ends_but_for_the_order_of_sums(
    paths: Paths, other_paths: Paths, as_by_torchrun: RunBench
) -> None:
    overrides = [*SETTINGS, "model.name=mish_cnn"]
    alone = train(load("digits", overrides), paths, NullListener())
    together, said = train_in_two(as_by_torchrun, other_paths, *overrides)
    assert "2 processes" in said
    for one, two in zip(alone.checkpoint().history, together.checkpoint().history, strict=True):
        assert two.loss == pytest.approx(one.loss, rel=1e-4)
        assert two.accuracy == pytest.approx(one.accuracy, abs=0.01)
        assert two.validation_accuracy == pytest.approx(one.validation_accuracy, abs=0.02)
    torch.testing.assert_close(weights_of(together), weights_of(alone), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_batchnorm_over_shares_learns_as_well_within_noise_and_goes_on_after_its_epochs(
    paths: Paths, other_paths: Paths
) -> None:
    overrides = [*SETTINGS, "model.name=bn_cnn", "train.learning_rate=0.005"]
    alone = train(load("digits", overrides), paths, NullListener()).checkpoint().history
    run, _ = train_in_two(torchrun_bench, other_paths, *overrides)
    assert run.checkpoint().history[-1].loss == pytest.approx(alone[-1].loss, rel=0.2)
    assert not run.resume.exists()
    again, said = train_in_two(torchrun_bench, other_paths, *overrides)
    assert again == run
    assert said.count("is trained already") == 1


def test_other_commands_are_refused_in_several_processes_in_one_line(paths: Paths) -> None:
    code, out, err = torchrun_bench(paths, "list")
    assert code == 1
    assert not out
    assert re.search("Error: torchrun started 2 processes, .*bench list", err)
    assert 'File "' not in err.split("torch/distributed")[0]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_the_batch_and_differ_by_one_at_most(size: int) -> None:
    for batch in split_batches(53, 16, torch.Generator(), 2 * size):
        shares = [ProcessGroup(rank, size).shard(batch) for rank in range(size)]
        assert torch.equal(torch.cat(shares), batch)
        lengths = [len(share) for share in shares]
        assert max(lengths) - min(lengths) <= 1
        assert min(lengths) >= 2


def test_a_process_without_a_gpu_of_its_own_is_told_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(TrainingError, match="process 3 .* 2 CUDA devices"):
        pick_device("cuda")


def test_without_torchrun_its_variables_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (torchrun.rank(), torchrun.world_size(), torchrun.local_world_size()) == (0, 1, 1)


class WithAuxiliary(nn.Module):
    """Its second classifier is in no loss; the first comes after a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Dropout())
        self.head, self.auxiliary = nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.body(x)
        return self.head(y), self.auxiliary(y)


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[ProcessGroup]:
    """A group that says it has two processes, and of which torch knows one."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield ProcessGroup(0, 2)
    torch.distributed.destroy_process_group()


def test_an_auxiliary_classifier_learns_nothing_in_several_processes(
    group_of_one: ProcessGroup,
) -> None:
    model, shape = WithAuxiliary(), (3, 2, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    network = group_of_one.wrap(model, shape)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for _ in range(3):
        logits_of(network(torch.rand(4, *shape))).sum().backward()
    assert model.auxiliary.weight.grad is None
    assert model.head.weight.grad is not None


def test_two_real_processes_learn_what_one_learns_and_leave_an_auxiliary_head_as_it_is(
    tmp_path: Path,
) -> None:
    processes = [start(shared_training.train, rank, 2, tmp_path) for rank in range(2)]
    first, second = (process.connection.recv() for process in processes)
    for process in processes:
        process.close()
    assert first == second
    alone = shared_training.train_both(tmp_path, ProcessGroup())
    for (losses, weights), (expected_losses, expected) in zip(first, alone, strict=True):
        assert losses == pytest.approx(expected_losses, rel=1e-4)
        assert losses[-1] < losses[0]
        for name, value in weights.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-5)
    torch.manual_seed(0)
    fresh = shared_training.Heads(auxiliary=True).state_dict()
    same = {name.partition(".")[0] for name in fresh if fresh[name].tolist() == weights[name]}
    assert same == {"auxiliary"}


def test_parameters_that_all_learn_are_not_searched_for_each_time(
    group_of_one: ProcessGroup,
) -> None:
    network = group_of_one.wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2))
    assert isinstance(network, DistributedDataParallel)
    assert not network.find_unused_parameters

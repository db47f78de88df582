"""Fixtures that many tests share: a small network, images to feed it and a run that holds it."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

import fake_backend
from builders import INT8, QUICK
from foldbench.bench.config.files import load
from foldbench.bench.machine.cpu import usable_cpus
from foldbench.bench.progress import NullListener
from foldbench.bench.registry import BACKENDS
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, RunDirectory

CPUS = usable_cpus()


def pytest_configure() -> None:
    """Give each of pytest-xdist's processes a core of its own, and Hypothesis no deadline.

    Two processes whose threads wait for each other's cores are no faster than one. The first
    example of a test may have to import what it tests.
    """
    settings.register_profile("foldbench", deadline=None)
    settings.load_profile("foldbench")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {CPUS[int(worker) % len(CPUS)]})
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOLDBENCH_RUNS", raising=False)
    monkeypatch.delenv("FOLDBENCH_CACHE", raising=False)


@pytest.fixture(autouse=True, scope="module")
def _what_is_loaded_is_no_garbage() -> None:
    """As a worker does: each timed block looks for garbage first, through all that torch holds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _torch_state() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def all_cores() -> Iterator[None]:
    """All cores for one test, whatever the process that runs it has; skipped where it is one."""
    if len(CPUS) < 2:
        pytest.skip("needs two cores")
    own = usable_cpus()
    if own != CPUS:
        os.sched_setaffinity(0, CPUS)
    yield
    if own != CPUS:
        os.sched_setaffinity(0, own)


@pytest.fixture
def with_fake_backend() -> Iterator[None]:
    """One backend more, `fake`, for workers in the process of the test."""
    with BACKENDS.added("fake", fake_backend):
        yield


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Empty folders for runs and decoded images."""
    return Paths(tmp_path / "runs", tmp_path / "cache")


@pytest.fixture(scope="session")
def trained_paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    folder = tmp_path_factory.mktemp("trained")
    return Paths(folder / "runs", folder / "cache")


@pytest.fixture(scope="session")
def trained_run(trained_paths: Paths) -> RunDirectory:
    """A finished training of bn_cnn on digits; copy it before changing anything in it."""
    return train(load("digits", QUICK), trained_paths, NullListener())


@pytest.fixture
def own_run(trained_run: RunDirectory, paths: Paths) -> RunDirectory:
    """A copy of the finished training in the test's own folder."""
    import shutil

    copy = paths.runs / trained_run.name
    shutil.copytree(trained_run.path, copy)
    return RunDirectory(copy)


@pytest.fixture(scope="session")
def quantized_run(
    trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> RunDirectory:
    """The finished training with a file in float32 and one in int8; read it only."""
    import shutil

    from foldbench.bench.stages.export import export

    folder = tmp_path_factory.mktemp("quantized")
    copy = RunDirectory(folder / trained_run.name)
    shutil.copytree(trained_run.path, copy.path)
    export(copy, INT8, Paths(folder, folder / "cache"), NullListener())
    return copy


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """(12, 3, 32, 32) float32, of the range that preprocessed images have."""
    return np.random.default_rng(0).uniform(-1, 1, (12, 3, 32, 32)).astype(np.float32)


_LONGEST_FIRST = (
    *("test_readme", "test_packaging", "test_comparison", "test_commands", "test_training"),
    *("test_transfer", "test_process_group", "test_quantize", "test_other_networks"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest, so that no process is left alone with one."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem
        return _LONGEST_FIRST.index(name) if name in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=place)

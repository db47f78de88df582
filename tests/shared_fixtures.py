"""Fixtures that many tests share: a small network, images to feed it and a run that holds it."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

import fake_backend
import warm_starts
from builders import INT8, QUICK, run_in_process
from foldbench.bench.config.files import load
from foldbench.bench.machine.cpu import usable_cpus
from foldbench.bench.progress import NullListener
from foldbench.bench.registry import BACKENDS
from foldbench.bench.stages.export import export
from foldbench.bench.stages.train import train
from foldbench.bench.store.directory import Paths, RunDirectory
from translations import read_once

CPUS = usable_cpus()
read_once()

MakeOnce = Callable[[str, Callable[[Path], object]], Path]


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


@pytest.fixture(scope="session")
def warm_server(shared_folder: Path) -> Iterator[Callable[[], str]]:
    """Start, when first asked, the server that forks processes: see `warm_starts`."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(warm_starts.server(shared_folder)))


@pytest.fixture(autouse=True, scope="module")
def _warm_starts(warm_server: Callable[[], str]) -> Iterator[None]:
    """Processes that are started have torch loaded, unless a folder's conftest says otherwise."""
    if not warm_starts.AVAILABLE:
        yield
        return
    before = warm_starts.use(warm_server)
    yield
    warm_starts.forget(before)


@pytest.fixture
def start_bench(
    warm_server: Callable[[], str],
) -> Iterator[Callable[..., warm_starts.WarmProcess]]:
    """Start a command as a process of its own that has torch loaded: `warm_starts.start_bench`."""
    if not warm_starts.AVAILABLE:
        pytest.skip("needs Linux")
    started: list[warm_starts.WarmProcess] = []

    def start(folder: Path, *arguments: str, **environment: str) -> warm_starts.WarmProcess:
        started.append(warm_starts.start_bench(warm_server(), folder, *arguments, **environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()


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


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons start no processes, see `run_in_process`."""
    run_in_process(monkeypatch)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all of pytest-xdist's processes have."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def make_once(shared_folder: Path) -> MakeOnce:
    """Return a function that has a folder filled once for all of pytest-xdist's processes."""
    root = shared_folder

    def make_once(name: str, fill: Callable[[Path], object]) -> Path:
        folder, finished = root / f"once-{name}", root / f"once-{name}.finished"
        with FileLock(root / f"once-{name}.lock"):
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                finished.touch()
        return folder

    return make_once


@pytest.fixture(scope="session")
def trained_paths(make_once: MakeOnce) -> Paths:
    def fill(folder: Path) -> None:
        train(load("digits", QUICK), Paths(folder / "runs", folder / "cache"), NullListener())

    folder = make_once("trained", fill)
    return Paths(folder / "runs", folder / "cache")


@pytest.fixture(scope="session")
def trained_run(trained_paths: Paths) -> RunDirectory:
    """A finished training of bn_cnn on digits; copy it before changing anything in it."""
    return RunDirectory(trained_paths.runs / "digits-001")


def export_copy(
    run: RunDirectory, folder: Path, cache: Path, *exports: tuple[str, ...]
) -> RunDirectory:
    """Copy a run into a folder and export it there, once for each tuple of settings."""
    copy = RunDirectory(folder / run.name)
    shutil.copytree(run.path, copy.path)
    for overrides in exports:
        export(copy, overrides, Paths(folder, cache), NullListener())
    return copy


def export_once(
    make_once: MakeOnce, name: str, run: RunDirectory, paths: Paths, overrides: tuple[str, ...]
) -> RunDirectory:
    """Return the one copy of a run that all test processes share, exported with `overrides`."""
    folder = make_once(name, lambda folder: export_copy(run, folder, paths.cache, overrides))
    return RunDirectory(folder / run.name)


@pytest.fixture(scope="session")
def exported_run(
    trained_run: RunDirectory, trained_paths: Paths, make_once: MakeOnce
) -> RunDirectory:
    """The finished training with its folded file; read it only."""
    return export_once(make_once, "exported", trained_run, trained_paths, QUICK)


@pytest.fixture(scope="session")
def twice_exported_run(
    exported_run: RunDirectory, trained_paths: Paths, make_once: MakeOnce
) -> RunDirectory:
    """The finished training with its folded and its unfolded file; read it only."""
    unfolded = (*QUICK, "export.fold_bn=false")
    return export_once(make_once, "twice-exported", exported_run, trained_paths, unfolded)


@pytest.fixture(scope="session")
def quantized_run(
    exported_run: RunDirectory, trained_paths: Paths, make_once: MakeOnce
) -> RunDirectory:
    """The finished training with a file in float32 and one in int8; read it only."""
    return export_once(make_once, "quantized", exported_run, trained_paths, INT8)


def copy_into(run: RunDirectory, paths: Paths) -> RunDirectory:
    shutil.copytree(run.path, paths.runs / run.name)
    return RunDirectory(paths.runs / run.name)


@pytest.fixture
def own_run(trained_run: RunDirectory, paths: Paths) -> RunDirectory:
    """A copy of the finished training in the test's own folder."""
    return copy_into(trained_run, paths)


@pytest.fixture
def own_exported_run(exported_run: RunDirectory, paths: Paths) -> RunDirectory:
    """A copy of the exported run in the test's own folder."""
    return copy_into(exported_run, paths)


@pytest.fixture
def own_twice_exported_run(twice_exported_run: RunDirectory, paths: Paths) -> RunDirectory:
    """A copy of the run with both files in the test's own folder."""
    return copy_into(twice_exported_run, paths)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """(12, 3, 32, 32) float32, of the range that preprocessed images have."""
    return np.random.default_rng(0).uniform(-1, 1, (12, 3, 32, 32)).astype(np.float32)

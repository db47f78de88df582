"""Ten classifiers of public design, each by one command from a folder outside the repository.

The labels are what each network itself answers to random images: every contender that is the
network with these weights is right about all of them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from own_networks import OWN_NETWORKS, OwnNetwork

from builders import QUICK
from foldbench.bench.cli import cli
from foldbench.bench.store.directory import Paths, list_runs

IMAGES = 24
NOT_OURS = ("model.", "train.", "compare.devices", "compare.batch_sizes")
SETTINGS = [f"--set={text}" for text in QUICK if not text.startswith(NOT_OURS)]
BENCH = (
    *SETTINGS, "--set=export.images=24", "--devices", "cpu", "--backends", "torch,ort",
    "--batch-sizes", "4", "--set=compare.rounds=1",
)  # fmt: skip
BATCHNORMS = {
    "repvgg": 10, "repvgg deployed": 0, "se-resnet": 8, "ghostnet": 12, "convmixer": 5,
    "own mish": 2,
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def bench(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in a folder of the user's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("foldbench.bench.stages.add.run_isolated", lambda call, *args: call(*args))
    monkeypatch.setenv("FOLDBENCH_RUNS", str(paths.runs))
    monkeypatch.setenv("FOLDBENCH_CACHE", str(paths.cache))
    return lambda *arguments: CliRunner().invoke(cli, list(arguments), prog_name="bench")


def write_images(own: OwnNetwork, path: Path) -> None:
    images = own.images(IMAGES)
    labels = own.answer(images)
    assert len(labels.unique()) > 2
    np.savez(path, images=images.numpy(), labels=labels.numpy())


@pytest.mark.parametrize("name", OWN_NETWORKS)
def test_one_command_folds_exports_checks_and_compares_it(
    name: str, bench: Callable[..., Result], paths: Paths
) -> None:
    own = OWN_NETWORKS[name]
    subject = own.place(Path())
    write_images(own, Path("mine.npz"))
    shown = bench("run", *subject, "--data", "mine.npz", *BENCH)
    assert shown.exit_code == 0, shown.output
    (folder,) = list_runs(paths.runs)
    run = folder.results()
    measured = [m for m in run.measurements if m.status == "ok"]
    assert {m.backend for m in measured} >= ({"ort"} if own.is_graph else {"torch", "ort"})
    for measurement in measured:
        assert measurement.accuracy is not None
        found = measurement.accuracy
        assert (found.correct, found.total) == (IMAGES, IMAGES), measurement.contender
    assert run.checkpoint.preprocessing.input_shape == own.shape
    assert len(run.checkpoint.classes) == own.classes
    for artifact in run.artifacts:
        assert artifact.parity.passed, artifact.parity.reason
        assert artifact.batchnorm_nodes == 0
        expected = 0 if own.is_graph else BATCHNORMS.get(name, 0)
        assert artifact.fold.batchnorms_before == expected

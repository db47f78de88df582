"""Ten classifiers of public design, each by one command from a folder outside the repository.

The labels are what each network itself answers to random images: every contender that is the
network with these weights is right about all of them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from own_networks import OWN_NETWORKS, OwnNetwork

from builders import QUICK
from foldbench.bench.cli import cli
from foldbench.bench.store.directory import Paths

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
    monkeypatch.setenv("FOLDBENCH_RUNS", str(paths.runs))
    monkeypatch.setenv("FOLDBENCH_CACHE", str(paths.cache))
    return lambda *arguments: CliRunner().invoke(cli, list(arguments), prog_name="bench")


def answers(own: OwnNetwork, images: np.ndarray) -> np.ndarray:
    """Return the network's classes for preprocessed images (N, C, H, W)."""
    with torch.inference_mode():
        output = own.filled()(torch.from_numpy(images))
    logits = output[0] if isinstance(output, tuple) else output
    found: np.ndarray = logits.argmax(1).numpy()
    assert len(np.unique(found)) > 1
    return found


def write_images(own: OwnNetwork, path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(IMAGES, *own.shape))
    images = (noise + 3 * rng.normal(size=(IMAGES, own.shape[0], 1, 1))).astype(np.float32)
    np.savez(path, images=images, labels=answers(own, images))


@pytest.mark.parametrize("name", OWN_NETWORKS)
def test_one_command_folds_exports_checks_and_compares_it(
    name: str, bench: Callable[..., Result], paths: Paths
) -> None:
    own = OWN_NETWORKS[name]
    subject = own.place(Path())
    write_images(own, Path("mine.npz"))
    shown = bench("run", *subject, "--data", "mine.npz", *BENCH)
    assert shown.exit_code == 0, shown.output
    (run,) = paths.runs.iterdir()
    record = json.loads((run / "results.json").read_text())
    rows = {row["key"]: row for row in accuracy_rows(record)}
    assert rows, record.keys()
    for row in rows.values():
        assert row["correct"] == IMAGES, row


def accuracy_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    return record["rows"]

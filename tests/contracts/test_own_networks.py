"""Ten classifiers of public design, each by one command from a folder outside the repository.

The labels are what each network itself answers to random images: every contender that is the
network with these weights is right about all of them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from own_networks import OWN_NETWORKS, OwnNetwork, load_file, logits_of
from torch import nn

from builders import QUICK
from foldbench.bench.cli import cli
from foldbench.bench.store.directory import Paths, list_runs
from foldbench.exporters.folding.fold import fold_linear
from foldbench.models.building.checkpoint import load_checkpoint

IMAGES = 24
NOT_OURS = "model.", "data.", "train.", "compare.devices", "compare.batch_sizes", "compare.rounds"
SETTINGS = [f"--set={text}" for text in QUICK if not text.startswith(NOT_OURS)]
BENCH = (
    *SETTINGS, "--set=export.images=24", "--devices", "cpu", "--backends", "torch,ort",
    "--batch-sizes", "4", "--set=compare.rounds=1",
)  # fmt: skip
BATCHNORMS = {
    "repvgg": (10, 0), "repvgg deployed": (0, 0), "se-resnet": (8, 0), "ghostnet": (12, 0),
    "vit": (0, 0), "convmixer": (5, 5), "capsules": (0, 0), "lenet": (0, 0), "own mish": (2, 0),
    "lightning": (0, 0),
}  # fmt: skip
"""Before and after folding: after an activation there is none."""
MODULES = [name for name, own in OWN_NETWORKS.items() if not own.is_graph]
FULL = [
    pytest.param(name, marks=() if name in ("lenet", "fixed batch") else pytest.mark.slow)
    for name in OWN_NETWORKS
]


@pytest.fixture
def bench(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in a folder of the user's; their code runs in the process of the test."""
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


@pytest.mark.parametrize("name", MODULES)
def test_what_is_added_is_the_network_with_its_weights(
    name: str, bench: Callable[..., Result], paths: Paths
) -> None:
    own = OWN_NETWORKS[name]
    shown = bench("add", "mine", *own.place(Path()))
    assert shown.exit_code == 0, shown.output
    (run,) = list_runs(paths.runs)
    network = load_checkpoint(run.checkpoint(), run.path)
    images = own.images(IMAGES)
    expected = logits_of(own.filled(), images)
    if own.weights == "w.bin":  # in bfloat16
        expected = logits_of(rounded(own.filled()), images)
    torch.testing.assert_close(logits_of(network, images), expected, rtol=1e-4, atol=1e-5)
    folded, report = fold_linear(network, images)
    assert (report.batchnorms_before, report.batchnorms_after) == BATCHNORMS[name]
    torch.testing.assert_close(logits_of(folded, images), expected, rtol=1e-4, atol=1e-5)


def test_a_yaml_file_adds_the_network_that_it_names(
    bench: Callable[..., Result], paths: Paths
) -> None:
    own = OWN_NETWORKS["lenet"]
    subject, *_ = own.place(Path())
    named = f"from: {subject}, weights: {own.weights}, classes: {own.classes}"
    channels, *size = own.shape
    text = f"model: {{{named}}}\ndata: {{channels: {channels}, image_size: {size}}}\n"
    Path("mine.yaml").write_text(text)
    Path("other.yaml").write_text("model: {name: bn_cnn}")
    shown = bench("add", "my_net", "mine.yaml", *own.options)
    assert shown.exit_code == 0, shown.output
    (run,) = list_runs(paths.runs)
    assert run.name.startswith("my_net")
    images = own.images(IMAGES)
    network = load_checkpoint(run.checkpoint(), run.path)
    torch.testing.assert_close(logits_of(network, images), logits_of(own.filled(), images))
    assert bench("add", "my_net", "other.yaml").exit_code == 2
    assert list_runs(paths.runs) == (run,)


def rounded(network: nn.Module) -> nn.Module:
    return network.bfloat16().float()


def test_the_graph_that_is_added_is_the_file_that_was_given(
    bench: Callable[..., Result], paths: Paths
) -> None:
    own = OWN_NETWORKS["fixed batch"]
    shown = bench("add", "mine", *own.place(Path()))
    assert shown.exit_code == 0, shown.output
    (run,) = list_runs(paths.runs)
    path = run.path / run.checkpoint().weights
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batch = own.images(load_file(own.file).BATCH)
    (found,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    torch.testing.assert_close(
        torch.from_numpy(found), logits_of(own.filled(), batch), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", FULL)
@pytest.mark.usefixtures("in_process")
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
    assert {m.backend for m in measured} == ({"ort"} if own.is_graph else {"torch", "ort"})
    for measurement in measured:
        assert measurement.accuracy is not None
        found = measurement.accuracy
        assert (found.correct, found.total) == (IMAGES, IMAGES), measurement.contender
    assert run.checkpoint.preprocessing.input_shape == own.shape
    assert len(run.checkpoint.classes) == own.classes
    for artifact in run.artifacts:
        assert artifact.parity.passed, artifact.parity.reason

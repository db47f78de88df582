"""Networks of other people: fold, export, passes and parity, all the way."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from foldbench.bench.store.directory import RunDirectory
from foldbench.exporters.export import ExportOptions, export_checkpoint
from foldbench.exporters.folding.fold import fold_linear
from foldbench.exporters.rewriting import choose_passes

NETWORKS = {
    "torchvision resnet18": (lambda: torchvision.models.resnet18(), 20, 64),
    "timm test_efficientnet, padded as tf's": (
        lambda: timm.create_model("test_efficientnet", pad_type="same"),
        13,
        64,
    ),
    "timm tf_efficientnet_lite0": (lambda: timm.create_model("tf_efficientnet_lite0"), 49, 64),
    "torchvision resnet50": (lambda: torchvision.models.resnet50(), 53, 224),
    "timm swin_tiny_patch4_window7_224": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224"),
        0,
        224,
    ),
}
"""By name: the network, its BatchNorms, and height and width of the images, pixels."""
SLOW = (
    *("timm tf_efficientnet_lite0", "torchvision resnet50"),
    "timm swin_tiny_patch4_window7_224",
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Threads that wait for each other take ten times as long beside a busy neighbour."""
    torch.set_num_threads(1)


def eventful(network: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and weights that folding must not ignore."""
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.3, 0.3, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            part.weight.data.uniform_(0.5, 1.0, generator=generator)
            part.bias.data.uniform_(-0.1, 0.1, generator=generator)
    return network.eval()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NETWORKS],
)
def test_it_is_folded_exported_and_computes_the_same(
    name: str, own_run: RunDirectory, tmp_path: Path
) -> None:
    build, batchnorms, size = NETWORKS[name]
    torch.manual_seed(0)
    network = eventful(build())
    images = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    options = ExportOptions(True, 20, choose_passes(["default"], "cpu", True))
    artifact = export_checkpoint(network, own_run.checkpoint(), tmp_path, images, options)
    assert artifact.parity.passed, artifact.parity.reason
    assert {case.batch_size for case in artifact.parity.cases} == {1, 2, 5}
    fold = artifact.fold
    assert (fold.batchnorms_before, fold.batchnorms_after) == (batchnorms, 0), fold.skipped
    assert artifact.batchnorm_nodes == 0
    assert not any("undone" in done.detail for done in artifact.passes)


def test_a_convolution_that_pads_by_the_size_of_its_input_takes_batchnorm_in() -> None:
    """timm's Conv2dSame branches on sizes, so that torch.fx cannot look into it."""
    network = eventful(timm.create_model("tf_efficientnet_lite0"))
    folded, report = fold_linear(network, torch.zeros(2, 3, 64, 64))
    assert (report.batchnorms_after, report.skipped) == (0, ())
    for height, width in ((64, 64), (70, 53)):
        x = torch.randn(2, 3, height, width)
        with torch.no_grad():
            torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)

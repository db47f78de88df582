"""Networks with a deploy form of their own: folding gets at least as far, and gives the answers."""

from collections import Counter
from typing import Any

import pytest
import timm
import torch
from timm.utils import reparameterize_model
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from foldbench.exporters.folding.fold import fold_linear

SIDE = {"repvgg_a0": 32, "mobileone_s0": 32, "fastvit_t8": 64, "repvit_m0_9": 32}


class Counted(TorchDispatchMode):
    """Counts operators by name while a network runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__.strip("_")
        if name in ("convolution", "native_batch_norm", "native_batch_norm_legit_no_training"):
            self.calls[name.partition("_legit")[0]] += 1
        if name in ("add", "sub", "add_", "sub_", "mul"):
            self.calls["sums and products"] += isinstance(args[1], torch.Tensor)
        return function(*args, **(kwargs or {}))


def count(network: nn.Module, x: torch.Tensor) -> Counter[str]:
    with Counted() as counted:
        network(x)
    return counted.calls


@torch.no_grad()
@pytest.mark.parametrize("name", SIDE)
def test_folding_gets_at_least_as_far_as_the_networks_own_deploy_form(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5).eval().double()
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            part.weight.uniform_(0.5, 1.5)
            part.bias.normal_(0, 0.2)
    x = torch.randn(2, 3, SIDE[name], SIDE[name], dtype=torch.float64)
    folded, report = fold_linear(network, x)
    exact = network(x)
    ours, theirs = count(folded, x), count(reparameterize_model(network.float()), x.float())
    assert (report.batchnorms_after, ours["native_batch_norm"]) == (0, 0)
    assert 0 < ours["convolution"] < sum(isinstance(m, nn.Conv2d) for m in network.modules())
    for operators in ("convolution", "native_batch_norm", "sums and products"):
        assert ours[operators] <= theirs[operators], operators
    assert (folded(x) - exact).abs().max() <= 1e-12 * exact.abs().max()
    assert report.cost_before is not None
    assert report.cost_after is not None
    assert report.cost_after.flops_per_image <= report.cost_before.flops_per_image
    assert report.cost_after.parameters < report.cost_before.parameters

import copy
from dataclasses import dataclass, field

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from foldbench.exporters.folding.fold import fold_linear

QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


@dataclass
class Stack:
    """A chain of layers that is being drawn."""

    dimensions: int
    channels: int
    layers: list[nn.Module] = field(default_factory=list)
    foldable: int = 0
    open: bool = False
    """Whether a BatchNorm would fold here."""


def randomised(network: nn.Module, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.running_mean.normal_()
            part.running_var.uniform_(0.2, 3)
            if part.affine:
                part.weight.data.normal_()
                part.bias.data.normal_()
    return network.eval()


@st.composite
def convolutions(draw: st.DrawFn, dimensions: int, channels: int) -> nn.Module:
    groups = draw(st.sampled_from([n for n in (1, 2, 3, 4) if channels % n == 0]))
    kinds = TRANSPOSED if draw(st.booleans()) else CONVS
    kernel = draw(st.integers(1, 3))
    return kinds[dimensions](
        channels,
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=draw(st.integers(1, 2)),
        padding=kernel // 2,
        groups=groups,
        bias=draw(st.booleans()),
    )


def batchnorms(dimensions: int, channels: int) -> st.SearchStrategy[nn.Module]:
    eps = st.sampled_from([1e-5, 1e-3, 0.1])
    return st.builds(NORMS[dimensions], st.just(channels), eps=eps, affine=st.booleans())


@st.composite
def stacks(draw: st.DrawFn) -> tuple[nn.Module, Tensor, int]:
    """Draw a network, an input for it, and the number of its BatchNorms that fold."""
    dimensions = draw(st.integers(1, 3))
    channels = draw(st.integers(1, 6))
    x = torch.randn(2, channels, *[5] * dimensions)
    stack = Stack(dimensions, channels)
    kinds = ["conv", "norm", "norm", "activation", "pool", "nothing"]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=7)):
        extend(draw, stack, kind)
    if draw(st.booleans()):
        pool = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
        features = draw(st.integers(1, 5))
        head = nn.Linear(stack.channels, features, bias=draw(st.booleans()))
        stack.layers += [pool[dimensions](1), nn.Flatten(), head, draw(batchnorms(1, features))]
        stack.foldable += 1
    return nn.Sequential(*stack.layers), x, stack.foldable


def extend(draw: st.DrawFn, stack: Stack, kind: str) -> None:
    """Put one more layer on `stack`."""
    if kind == "conv":
        layer = draw(convolutions(stack.dimensions, stack.channels))
        stack.channels, stack.open = layer.out_channels, True
    elif kind == "norm":
        layer = draw(batchnorms(stack.dimensions, stack.channels))
        stack.foldable += stack.open
    elif kind == "nothing":
        layer = draw(st.sampled_from([nn.Identity, nn.Dropout]))()
    else:
        layer = nn.SiLU() if kind == "activation" else POOLS[stack.dimensions](1)
        stack.open = False
    stack.layers.append(layer)


@QUICK
@given(stacks(), st.integers(0, 2**31))
@torch.no_grad()
def test_any_stack_of_layers_folds_where_it_can_and_computes_the_same(
    drawn: tuple[nn.Module, Tensor, int], seed: int
) -> None:
    network, x, foldable = drawn
    randomised(network, seed)
    folded, report = fold_linear(network, x)
    exact = copy.deepcopy(network).double()(x.double())
    error = (folded(x) - exact).abs().max()
    plain = (network(x) - exact).abs().max()
    assert error <= 1e-5 * exact.abs().max() + 2 * plain
    assert len(report.folded) >= foldable, "some more fold into the layer behind them"
    left = sum(isinstance(part, _BatchNorm) for part in folded.modules())
    stayed = [skip for skip in report.skipped if skip.kind == "batchnorm"]
    assert left == report.batchnorms_after == len(stayed)
    assert report.batchnorms_before == left + len(report.folded)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[nn.Module, nn.Module, Tensor]:
    """Draw a layer, a BatchNorm for its output and an input, of a kind that torch can fuse."""
    dimensions = draw(st.integers(0, 3))
    channels = draw(st.integers(1, 6))
    if dimensions == 0:
        layer: nn.Module = nn.Linear(channels, draw(st.integers(1, 6)), bias=draw(st.booleans()))
        norm = nn.BatchNorm1d(layer.out_features, eps=draw(st.sampled_from([1e-5, 1e-2])))
        return layer, norm, torch.randn(2, channels)
    layer = draw(
        convolutions(dimensions, channels).filter(
            lambda m: m.groups == 1 or not isinstance(m, _ConvTransposeNd)
        )
    )
    norm = draw(batchnorms(dimensions, layer.out_channels))
    return layer, norm, torch.randn(2, channels, *[4] * dimensions)


@QUICK
@given(pairs(), st.integers(0, 2**31))
@torch.no_grad()
def test_fused_weights_are_those_of_torchs_own_fusion_where_that_applies(
    drawn: tuple[nn.Module, nn.Module, Tensor], seed: int
) -> None:
    layer, norm, x = drawn
    network = randomised(nn.Sequential(layer, norm), seed)
    folded, report = fold_linear(network, x)
    assert len(report.folded) == 1
    exact_layer, exact_norm = copy.deepcopy(network).double()
    if isinstance(layer, nn.Linear):
        theirs = fuse_linear_bn_eval(exact_layer, exact_norm)
    else:
        transposed = isinstance(layer, _ConvTransposeNd)
        theirs = fuse_conv_bn_eval(exact_layer, exact_norm, transpose=transposed)
    state = folded.state_dict()
    torch.testing.assert_close(state["0.weight"], theirs.weight.float(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(state["0.bias"], theirs.bias.float(), rtol=1e-6, atol=1e-7)

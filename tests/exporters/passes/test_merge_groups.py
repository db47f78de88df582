"""The pass `merge_groups`: which groups become one, where channels of zeros come in, what stays."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes import merge_groups
from foldbench.exporters.passes._graphs.optimised import (
    BLOCKED,
    channels_in_a_block,
    optimise,
)

X = np.random.default_rng(0).standard_normal((3, 3, 10, 10)).astype(np.float32)


@pytest.fixture(autouse=True)
def sixteen_channels_in_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_groups, "channels_in_a_block", lambda: 16)


def conv(inputs: int, outputs: int, groups: int = 1, kernel: int = 3, **more) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, **more)


class Gated(nn.Module):
    """What RegNetY does after its grouped convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.less, self.more = conv(channels, 6, kernel=1), conv(6, channels, kernel=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.more(self.less(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return nn.functional.silu(x * gate)


class Masked(nn.Module):
    """A gate by pixel: one channel for all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask = conv(channels, 1, kernel=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mask(x).sigmoid()


class Residual(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.grouped = conv(channels, channels, groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.grouped(x).relu() + x


def between(*layers: nn.Module, channels: int, outputs: int | None = None) -> nn.Module:
    """Return `layers` between a convolution that makes `channels` and one that reads `outputs`."""
    return nn.Sequential(conv(3, channels), nn.ReLU(), *layers, conv(outputs or channels, 8))


def export(network: nn.Module) -> onnx.ModelProto:
    torch.manual_seed(0)
    for weights in network.parameters():
        nn.init.normal_(weights, std=0.2)
    return to_onnx(network.eval(), X[:2], ExportOptions(True, 20, ()))


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return open_session(model.SerializeToString()).run(None, {"input": x})[0]


def groups_of(model: onnx.ModelProto) -> list[int]:
    return [count for count in map(group_of, model.graph.node) if count > 1]


def group_of(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


MERGED: dict[str, tuple[Callable[[], nn.Module], list[int], bool]] = {
    "groups of 8": (lambda: between(conv(48, 48, 6), channels=48), [3], False),
    "groups of 4, moving by two": (
        lambda: between(conv(32, 32, 8, stride=2), channels=32),
        [2],
        False,
    ),
    "groups of 2, dilated": (
        lambda: between(conv(32, 32, 16, dilation=2), channels=32),
        [2],
        False,
    ),
    "groups of 24": (lambda: between(conv(96, 96, 4), channels=96), [2], False),
    "more outputs than inputs": (
        lambda: between(conv(32, 64, 4), channels=32, outputs=64),
        [2],
        False,
    ),
    "without a bias": (lambda: between(conv(32, 32, 4, bias=False), channels=32), [2], False),
    "in a sum": (lambda: between(Residual(32, 4), channels=32), [2], False),
    "one group left over": (lambda: between(conv(40, 40, 5), channels=40), [3], True),
    "one group left over, before a gate": (
        lambda: between(conv(40, 40, 5), nn.SiLU(), Gated(40), channels=40),
        [3],
        True,
    ),
    "one group left over, other outputs": (
        lambda: between(conv(40, 80, 5), nn.Hardswish(), nn.MaxPool2d(2), channels=40, outputs=80),
        [3],
        True,
    ),
}


@pytest.mark.parametrize("case", MERGED)
def test_narrow_groups_fill_blocks_and_the_answers_stay(case: str) -> None:
    make, groups, padded = MERGED[case]
    model = export(make())
    merged, report = merge_groups.apply(model)
    assert (groups_of(merged), report.changed) == (groups, 1), report.detail
    assert ("zeros" in report.detail) == padded
    onnx.checker.check_model(merged, full_check=True)
    for size in (1, 3):
        expected, found = run(model, X[:size]), run(merged, X[:size])
        bound = merge_groups.ERROR_BOUND * max(1, np.abs(expected).max())
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= bound
    again, report = merge_groups.apply(merged)
    assert (report.changed, again) == (0, merged)


KEPT: dict[str, Callable[[], nn.Module]] = {
    "by channel": lambda: between(conv(32, 32, 32), channels=32),
    "whole blocks": lambda: between(conv(64, 64, 4), channels=64),
    "wide groups": lambda: between(conv(80, 80, 2), channels=80),
    "too many zeros": lambda: between(conv(24, 24, 3), channels=24),
    "left over, before the end": lambda: nn.Sequential(conv(3, 40), nn.ReLU(), conv(40, 40, 5)),
    "left over, in a sum": lambda: between(Residual(40, 5), channels=40),
    "left over, before a gate by pixel": lambda: between(conv(40, 40, 5), Masked(40), channels=40),
    "left over, before a matrix product": lambda: nn.Sequential(
        conv(3, 40), nn.ReLU(), conv(40, 40, 5), nn.Flatten(), nn.Linear(4000, 10)
    ),
    "left over, after one another": lambda: between(
        conv(40, 40, 5), nn.ReLU(), conv(40, 40, 5), channels=40
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_would_not_gain_or_not_be_right_stays(case: str) -> None:
    model = export(KEPT[case]())
    kept, report = merge_groups.apply(model)
    assert (report.changed, kept) == (0, model)
    assert ("left over" in report.detail) == ("left over" in case), report.detail


def test_weights_that_others_read_stay_theirs() -> None:
    model = export(between(conv(32, 32, 4), channels=32))
    (node,) = (n for n in model.graph.node if group_of(n) == 4)
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name, twin.output[0], twin.input[0] = "twin", "twin", node.output[0]
    position = list(model.graph.node).index(node)
    model.graph.node.insert(position + 1, twin)
    for later in list(model.graph.node)[position + 2 :]:
        for number, name in enumerate(later.input):
            if name == node.output[0]:
                later.input[number] = "twin"
    merged, report = merge_groups.apply(model)
    assert report.changed == 2
    np.testing.assert_allclose(run(merged, X), run(model, X), rtol=1e-4, atol=1e-5)


def test_numbers_of_other_types_stay() -> None:
    model = export(between(conv(32, 32, 4), channels=32))
    for weights in model.graph.initializer:
        array = numpy_helper.to_array(weights)
        if array.dtype == np.float32:
            weights.CopyFrom(numpy_helper.from_array(array.astype(np.float64), weights.name))
    assert merge_groups.apply(model)[1].changed == 0


def test_a_processor_without_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_groups, "channels_in_a_block", lambda: None)
    model = export(between(conv(32, 32, 4), channels=32))
    copy, report = merge_groups.apply(model)
    assert (report.changed, copy, copy is model) == (0, model, False)
    assert "no blocks" in report.detail


def test_onnxruntime_takes_what_was_merged_into_its_own_layout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = channels_in_a_block()
    if block is None:
        pytest.skip("onnxruntime's convolutions have no blocks on this processor")
    monkeypatch.setattr(merge_groups, "channels_in_a_block", channels_in_a_block)
    model = export(between(conv(5 * block // 2, 5 * block // 2, 5), channels=5 * block // 2))
    merged, report = merge_groups.apply(model)
    assert report.changed == 1

    def blocked(made: onnx.ModelProto) -> int:
        graph = optimise(made).graph
        return sum(node.domain == BLOCKED and node.op_type == "Conv" for node in graph)

    assert (blocked(model), blocked(merged)) == (2, 3)

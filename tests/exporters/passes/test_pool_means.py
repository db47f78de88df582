"""The pass `pool_means`: which means become pools, within its bound."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes.pool_means import ERROR_BOUND, apply

X = np.random.default_rng(0).standard_normal((3, 3, 9, 7)).astype(np.float32)


class Ends(nn.Module):
    """A convolution, and what a test makes of it."""

    def __init__(self, end: Callable[[torch.Tensor], torch.Tensor], convolved: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3) if convolved else nn.Identity()
        self.end = end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.conv(x))


def exported(
    end: Callable[[torch.Tensor], torch.Tensor], convolved: bool = True
) -> onnx.ModelProto:
    torch.manual_seed(0)
    return to_onnx(Ends(end, convolved).eval(), X[:2], ExportOptions(True, 20, ()))


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return open_session(model.SerializeToString()).run(None, {"input": x})[0]


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


MEANS = {
    "the mean that squeeze-and-excitation takes": lambda y: y.mean((2, 3), keepdim=True),
    "axes from the end, which go": lambda y: y.mean((-1, -2)),
    "after an activation, a pool and a sum": lambda y: (
        nn.functional.max_pool2d(y.relu(), 2) + 1
    ).mean((2, 3)),
}


@pytest.mark.parametrize("case", MEANS)
def test_a_mean_over_pixels_becomes_a_pool(case: str) -> None:
    model = exported(MEANS[case])
    rewritten, report = apply(model)
    assert report.changed == 1, report.detail
    assert "ReduceMean" not in operators(rewritten)
    assert "GlobalAveragePool" in operators(rewritten)
    onnx.checker.check_model(rewritten, full_check=True)
    for size in (1, 3):
        expected, found = run(model, X[:size]), run(rewritten, X[:size])
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= ERROR_BOUND * max(1, np.abs(expected).max())


LEFT = {
    "a mean over channels": (lambda y: y.mean(1), True),
    "a mean over rows": (lambda y: y.mean(3), True),
    "a mean over channels and pixels": (lambda y: y.mean((1, 2, 3)), True),
    "of what no convolution gave": (lambda y: y.exp().mean((2, 3)), False),
    "channels that were moved": (lambda y: y.permute(0, 2, 3, 1).mean((2, 3)), True),
    "in float64": (lambda y: y.double().mean((2, 3)), True),
}


@pytest.mark.parametrize("case", LEFT)
def test_other_means_stay(case: str) -> None:
    end, convolved = LEFT[case]
    model = exported(end, convolved)
    assert "ReduceMean" in operators(model)
    rewritten, report = apply(model)
    assert (rewritten, report.changed) == (model, 0)


@pytest.mark.parametrize("side", [112, 56, 224, 30])
def test_many_pixels_are_averaged_in_two_steps_and_as_exactly(side: int) -> None:
    model = pooled_model(side)
    rewritten, report = apply(model)
    assert report.changed == 1, report.detail
    assert operators(rewritten) == ["Conv", "AveragePool", "GlobalAveragePool", "Flatten"]
    onnx.checker.check_model(rewritten, full_check=True)
    x = np.random.default_rng(1).uniform(0, 1, (2, 8, side, side)).astype(np.float32)
    truth = x.astype(np.float64).mean((2, 3))
    assert np.abs(run(rewritten, x) - truth).max() <= ERROR_BOUND
    twice, again = apply(rewritten)
    assert (twice, again.changed) == (rewritten, 0)


@pytest.mark.parametrize("side", [113, 1021, "h"])
def test_pixels_that_have_no_windows_stay_with_a_reason(side: int | str) -> None:
    model = pooled_model(side)
    rewritten, report = apply(model)
    assert (rewritten, report.changed) == (model, 0)
    assert "1 left as before" in report.detail


def pooled_model(side: int | str) -> onnx.ModelProto:
    """A mean over all pixels of what a convolution of weight one gives."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]>'
        f"g (float[n,8,{side},{side}] input) => (float[n,8] y) {{"
        " c = Conv<group = 8>(input, w) y = ReduceMean<keepdims = 0>(c, axes) }"
    )
    for name, array in (("w", np.ones((8, 1, 1, 1), np.float32)), ("axes", np.array([2, 3]))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def test_axes_as_an_attribute_are_read() -> None:
    parsed = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]>'
        "g (float[n,8,4,4] input, float[8,8,1,1] w) => (float[n,8] y) {"
        " c = Conv(input, w) y = ReduceMean<axes = [2, 3], keepdims = 0>(c) }"
    )
    rewritten, report = apply(parsed)
    assert (operators(rewritten), report.changed) == (["Conv", "GlobalAveragePool", "Flatten"], 1)
    onnx.checker.check_model(rewritten, full_check=True)

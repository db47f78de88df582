"""What every registered export pass keeps to: its input, its bound, and that once is enough."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from bench.registry import PASSES
from exporters.export import ExportOptions, to_onnx


class Branches(nn.Module):
    """Convolution, BatchNorm, Mish, a residual sum and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.mish = nn.Mish()
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mish(self.bn(self.conv(x)))
        return self.fc((y + nn.functional.mish(y)).mean((2, 3)))


@pytest.fixture(scope="module", params=[True, False], ids=["optimized", "as exported"])
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    torch.manual_seed(0)
    example = np.zeros((2, 3, 16, 16), np.float32)
    exported = to_onnx(Branches().eval(), example, ExportOptions(request.param, 20, ()))
    exported.metadata_props.add(key="foldbench.note", value="stays")
    return exported


@pytest.fixture(params=PASSES.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def test_it_leaves_its_input_as_it_was(name: str, model: onnx.ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    PASSES.load(name).apply(model)
    assert model.SerializeToString(deterministic=True) == before


def test_applying_it_again_changes_nothing(name: str, model: onnx.ModelProto) -> None:
    once, report = PASSES.load(name).apply(model)
    twice, again = PASSES.load(name).apply(once)
    assert (report.name, again.changed) == (name, 0)
    assert twice.SerializeToString(deterministic=True) == once.SerializeToString(deterministic=True)


def test_the_outputs_stay_within_the_bound_it_states(name: str, model: onnx.ModelProto) -> None:
    rewritten, _ = PASSES.load(name).apply(model)
    onnx.checker.check_model(rewritten, full_check=True)
    for size in (1, 5):
        x = np.random.default_rng(size).standard_normal((size, 3, 16, 16)).astype(np.float32)
        expected, found = run(model, x), run(rewritten, x)
        allowed = PASSES.load(name).ERROR_BOUND * np.abs(expected).max()
        assert np.abs(expected - found).max() <= allowed


def test_the_models_own_metadata_stays(name: str, model: onnx.ModelProto) -> None:
    rewritten, _ = PASSES.load(name).apply(model)
    assert {p.key: p.value for p in rewritten.metadata_props}["foldbench.note"] == "stays"


def test_stripping_leaves_no_source_path_anywhere(model: onnx.ModelProto) -> None:
    assert b".py" in model.SerializeToString()
    rewritten, report = PASSES.load("strip_metadata").apply(model)
    assert report.changed > 0
    assert b".py" not in rewritten.SerializeToString()

"""What every registered export pass keeps to: its input, its bound, and that once is enough."""

import numpy as np
import onnx
import pytest
import torch
from onnx.parser import parse_model
from torch import nn

from foldbench.bench.records import Target
from foldbench.bench.registry import PASSES
from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.onnx_session import open_session

X = np.concatenate(
    [
        np.linspace(-100, 100, 400_001),
        np.random.default_rng(0).standard_normal(50_000),
        [np.inf, -np.inf, np.nan, 0.0, -0.0, 88.5, 89, -104, 1e10, 3e38, -3e38],
    ]
).astype(np.float32)
"""(450012,) float32: what an activation is held against float64 on."""

ACTIVATIONS = {
    "mish": (
        "y = Mish(x)",
        lambda x: nn.functional.mish(x),
    ),
    "mish by softplus": (
        "s = Softplus(x) t = Tanh(s) y = Mul(x, t)",
        lambda x: nn.functional.mish(x),
    ),
    "silu": ("s = Sigmoid(x) y = Mul(s, x)", lambda x: nn.functional.silu(x)),
    "tanh": ("y = Tanh(x)", torch.tanh),
}


class Branches(nn.Module):
    """Convolutions, BatchNorm, Mish, pools, a residual sum and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.bn = nn.BatchNorm2d(32)
        self.mish = nn.Mish()
        self.pool = nn.MaxPool2d(2)
        self.next = nn.Conv2d(32, 32, 3, padding=1)
        self.fc = nn.Linear(32, 16)
        self.bn1d = nn.BatchNorm1d(16)
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(self.mish(self.bn(self.conv(x))))
        y = (self.next(y) + nn.functional.mish(y)).mean((2, 3))
        return self.last(self.bn1d(self.fc(y)))


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
    session = open_session(model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def activation(body: str) -> onnx.ModelProto:
    return parse_model(
        f'<ir_version: 10, opset_import: ["": 20]> g (float[n] x) => (float[n] y) {{ {body} }}'
    )


def test_it_says_where_it_is_on_by_default(name: str) -> None:
    targets, only = PASSES.load(name).TARGETS, PASSES.load(name).ONLY_FOR
    assert targets or only
    assert set(targets) <= {*Target.__args__} if only is None else {only}


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
    rewritten, report = PASSES.load(name).apply(model)
    onnx.checker.check_model(rewritten, full_check=True)
    for size in (1, 5):
        x = np.random.default_rng(size).standard_normal((size, 3, 16, 16)).astype(np.float32)
        expected, found = run(model, x), run(rewritten, x)
        allowed = PASSES.load(name).ERROR_BOUND * report.changed * max(1, np.abs(expected).max())
        assert np.abs(expected - found).max() <= allowed


@pytest.mark.parametrize("which", ACTIVATIONS)
def test_activations_stay_right_on_every_kind_of_number(name: str, which: str) -> None:
    body, exact = ACTIVATIONS[which]
    original = activation(body)
    rewritten, report = PASSES.load(name).apply(original)
    found = run(rewritten, X)
    if not report.changed:
        np.testing.assert_array_equal(found, run(original, X))
        return
    truth = exact(torch.from_numpy(X).double()).numpy()
    finite = np.isfinite(truth)
    np.testing.assert_array_equal(found[~finite], truth[~finite].astype(np.float32))
    error = np.abs(found[finite] - truth[finite]) / np.maximum(1, np.abs(truth[finite]))
    assert error.max() <= PASSES.load(name).ERROR_BOUND


def test_a_graph_without_anything_to_rewrite_is_copied(name: str) -> None:
    model = activation("s = Cos(x) y = Floor(s)")
    copy, report = PASSES.load(name).apply(model)
    assert report.changed == 0
    assert report.detail
    assert copy.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    assert copy is not model


def test_the_models_own_metadata_stays(name: str, model: onnx.ModelProto) -> None:
    rewritten, _ = PASSES.load(name).apply(model)
    assert {p.key: p.value for p in rewritten.metadata_props}["foldbench.note"] == "stays"


def test_stripping_leaves_no_source_path_anywhere(model: onnx.ModelProto) -> None:
    assert b".py" in model.SerializeToString()
    rewritten, report = PASSES.load("strip_metadata").apply(model)
    assert report.changed > 0
    assert b".py" not in rewritten.SerializeToString()

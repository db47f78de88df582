"""Tables give bit for bit what the operators between two int8 tensors gave."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, helper
from torch import nn
from torch.nn import functional

from builders import needs_c_compiler
from foldbench.bench.compiler.body import LOOKUP
from foldbench.bench.host_files import custom_operators
from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes import mish
from foldbench.exporters.quantization.calibration import LabelledImages, measure_ranges
from foldbench.exporters.quantization.graph import find_candidates, infer_shapes, quantize_nodes
from foldbench.exporters.quantization.tables import write_tables

Activation = Callable[[torch.Tensor], torch.Tensor]


class Blocks(nn.Module):
    """Two convolutions, a pool and two linear layers around an activation."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3)
        self.fc, self.last = nn.Linear(5 * 3 * 3, 12), nn.Linear(12, 10)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.max_pool2d(self.activation(self.one(x)), 2)
        y = functional.max_pool2d(self.activation(self.two(y)), 2)
        return self.last(self.activation(self.fc(y.flatten(1))))


@cache
def quantized(activation: Activation, rewrite: bool = True) -> ModelProto:
    """Return `Blocks` in int8; read it only."""
    torch.manual_seed(0)
    example = np.zeros((2, 3, 16, 16), np.float32)
    model = to_onnx(Blocks(activation).eval(), example, ExportOptions(True, 20, ()))
    if rewrite:
        model, _ = mish.apply(model)
    model = infer_shapes(model)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 3, 16, 16)).astype(np.uint8)
    images = LabelledImages(
        pixels, np.zeros(64, np.int64), lambda x: x.astype(np.float32) / 127.5 - 1
    )
    ranges = measure_ranges(model, images, "minmax")
    return quantize_nodes(model, ranges, [node.name for node in find_candidates(model)])


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    session = open_session(model.SerializeToString())
    return session.run(None, {"input": x})[0]


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x * x * x)))


@pytest.mark.parametrize(
    "operator", ["GatherElements", pytest.param(LOOKUP.name, marks=needs_c_compiler)]
)
@pytest.mark.parametrize(
    ("activation", "rewrite"),
    [(functional.mish, True), (functional.mish, False), (gelu_tanh, False)],
    ids=["mish", "mish as exported", "gelu"],
)
def test_outputs_are_the_same_bit_for_bit_at_every_batch_size(
    activation: Activation, rewrite: bool, operator: str
) -> None:
    before = quantized(activation, rewrite)
    after, tables = write_tables(before, custom_operator=operator == LOOKUP.name)
    assert tables == 2, "after each convolution; results of matrix products are in float"
    onnx.checker.check_model(after, full_check=True)
    operators = [node.op_type for node in after.graph.node]
    assert operators.count(operator) == 2
    for size in (1, 2, 7):
        x = np.random.default_rng(size).uniform(-2, 2, (size, 3, 16, 16)).astype(np.float32)
        assert np.array_equal(run(before, x), run(after, x))


@needs_c_compiler
def test_onnxruntime_knows_shapes_behind_the_own_operator_and_keeps_convolutions_in_nhwc(
    tmp_path: Path,
) -> None:
    before = quantized(functional.mish)
    counts = []
    for custom_operator in (False, True):
        options = onnxruntime.SessionOptions()
        options.register_custom_ops_library(str(custom_operators.library([LOOKUP])))
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        model, _ = write_tables(before, custom_operator)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        operators = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
        counts.append((operators.count("Transpose"), operators.count("NhwcMaxPool")))
    assert counts[0] == counts[1] == (2, 2)


def test_the_model_that_is_given_stays_as_it_is() -> None:
    before = quantized(functional.mish)
    content = before.SerializeToString(deterministic=True)
    write_tables(before)
    assert before.SerializeToString(deterministic=True) == content


@pytest.mark.parametrize("activation", [torch.relu, functional.silu], ids=["relu", "silu"])
def test_what_onnxruntime_fuses_itself_is_left_alone(activation: Activation) -> None:
    before = quantized(activation)
    after, tables = write_tables(before)
    assert tables == 0
    x = np.zeros((1, 3, 16, 16), np.float32)
    assert np.array_equal(run(before, x), run(after, x))


def test_a_chain_that_something_else_reads_is_left_alone() -> None:
    before = ModelProto()
    before.CopyFrom(quantized(functional.mish))
    exp = next(node for node in before.graph.node if node.op_type == "Exp")
    before.graph.output.append(
        helper.make_tensor_value_info(exp.output[0], onnx.TensorProto.FLOAT, None)
    )
    _, tables = write_tables(before)
    assert tables == 1


def test_operators_on_two_tensors_are_no_table() -> None:
    def residual(x: torch.Tensor) -> torch.Tensor:
        return functional.mish(x) + x.mean()

    _, tables = write_tables(quantized(residual))
    assert tables == 0

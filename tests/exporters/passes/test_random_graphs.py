"""All passes of a target, on random graphs of layers, scales, sums and activations."""

from typing import NamedTuple

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from builders import needs_c_compiler
from foldbench.bench.records import Parity, PassReport
from foldbench.exporters.onnx_double import to_float64
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes import fold_batchnorm
from foldbench.exporters.rewriting import apply_passes, choose_passes

CHANNELS, SIDE = 4, 6
NETWORKS = 8
"""In one graph, so that their operators are compiled at once."""
ACTIVATIONS = ("Relu", "Mish", "Sigmoid", "HardSwish", "Tanh", "Elu")
RIGHT = Parity(passed=True, reason=None, cases=())


class Layer(NamedTuple):
    operator: str
    number: int
    """Of the kernel's side, or how far back the other summand is."""
    groups: int
    flag: bool
    """Whether there is a bias, or zeros count."""


def layers() -> st.SearchStrategy[Layer]:
    kinds = ("Conv", "Conv", "BatchNormalization", "Mul", "Add", "AveragePool", "Sum", *ACTIVATIONS)
    return st.builds(
        Layer,
        st.sampled_from(kinds),
        st.sampled_from([1, 3]),
        st.sampled_from([1, 2, 4]),
        st.booleans(),
    )


class Writer:
    """Nodes and constants of a graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def constant(self, *shape: int, positive: bool = False) -> str:
        name = f"c{len(self.constants)}"
        values = self.rng.uniform(0.5, 1.5, shape) if positive else self.rng.normal(0, 0.4, shape)
        self.constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str | None = None, **given) -> str:
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **given))
        return output

    def layer(self, layer: Layer, values: list[str]) -> str:
        x, side = values[-1], layer.number
        pads = [side // 2] * 4
        if layer.operator == "Conv":
            weight = self.constant(CHANNELS, CHANNELS // layer.groups, side, side)
            bias = [self.constant(CHANNELS)] if layer.flag else []
            return self.add("Conv", [x, weight, *bias], pads=pads, group=layer.groups)
        if layer.operator == "BatchNormalization":
            parts = [self.constant(CHANNELS) for _ in range(3)]
            return self.add(layer.operator, [x, *parts, self.constant(CHANNELS, positive=True)])
        if layer.operator in ("Mul", "Add"):
            return self.add(layer.operator, [x, self.constant(CHANNELS, 1, 1)])
        if layer.operator == "AveragePool":
            shape, counts = [side, side], int(layer.flag)
            return self.add(
                layer.operator, [x], kernel_shape=shape, pads=pads, count_include_pad=counts
            )
        if layer.operator == "Sum":
            return self.add("Add", [x, values[-min(side + 1, len(values))]])
        return self.add(layer.operator, [x])


def model_of(networks: list[list[Layer]]) -> onnx.ModelProto:
    writer = Writer()
    for number, network in enumerate(networks):
        values = ["x"]
        for layer in network:
            values.append(writer.layer(layer, values))
        pooled = writer.add("Flatten", [writer.add("GlobalAveragePool", [values[-1]])])
        weight = writer.constant(3, CHANNELS)
        writer.add("Gemm", [pooled, weight, writer.constant(3)], f"y{number}", transB=1)
    graph = helper.make_graph(
        writer.nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", CHANNELS, SIDE, SIDE])],
        [
            helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, ["n", 3])
            for number in range(len(networks))
        ],
        writer.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def graphs() -> st.SearchStrategy[onnx.ModelProto]:
    network = st.lists(layers(), min_size=2, max_size=9)
    return st.lists(network, min_size=NETWORKS, max_size=NETWORKS).map(model_of)


def rewritten(model: onnx.ModelProto, target: str) -> tuple[onnx.ModelProto, list[PassReport]]:
    made, reports = apply_passes(model, choose_passes(["default"], target, True), lambda _: RIGHT)
    return made, list(reports)


def check(model: onnx.ModelProto, target: str) -> None:
    made, _ = rewritten(model, target)
    x = np.random.default_rng(1).standard_normal((3, CHANNELS, SIDE, SIDE)).astype(np.float32)
    truth = ReferenceEvaluator(to_float64(model)).run(None, {"x": x.astype(np.float64)})
    for exact, found in zip(truth, open_session(made).run(None, {"x": x}), strict=True):
        assert np.abs(found - exact).max() <= 1e-5 * max(1, np.abs(exact).max())
    again, reports = rewritten(made, target)
    assert [report.changed for report in reports] == [0] * len(reports)
    assert again == made


def count_macs(model: onnx.ModelProto) -> int:
    """Return the multiplications of convolutions and products for each place of an image."""
    weights = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    layers = (node for node in model.graph.node if node.op_type in ("Conv", "Gemm"))
    return sum(weights[node.input[1]] for node in layers)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(graphs())
def test_for_any_cpu_they_keep_the_answers_and_change_nothing_again(model: onnx.ModelProto) -> None:
    check(model, "cpu")
    folded, _ = fold_batchnorm.apply(model)
    assert count_macs(folded) <= count_macs(model)
    assert len(folded.graph.node) <= len(model.graph.node)


@needs_c_compiler
@settings(max_examples=1, deadline=None, derandomize=True)
@given(graphs())
def test_for_this_machine_they_do_as_well(model: onnx.ModelProto) -> None:
    check(model, "host")

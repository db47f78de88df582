"""An .onnx file is held against its own graph in float64, and it is said how that was computed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graphs import classifier
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model
from torch import nn

from foldbench.bench.errors import ExportError
from foldbench.exporters.onnx_double import run_in_evaluator, run_in_onnxruntime, to_float64
from foldbench.exporters.onnx_truth import answer_in_float64, run_reference_onnx
from foldbench.exporters.parity import check_outputs

RANDOM = np.random.default_rng(5).standard_normal((6, 3, 8, 8)).astype(np.float32)


def dense(more: str = "", opset: int = 20) -> onnx.ModelProto:
    """Without a convolution, so that onnxruntime has all kernels in float64."""
    model = parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> '
        f"g (float[n, 3, 8, 8] x) => (float[n, 5] y) "
        f"{{ f = Flatten(x) h = MatMul(f, w) r = Relu(h) {more or 'y = Identity(r)'} }}"
    )
    w = np.random.default_rng(1).standard_normal((192, 5)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    return model


@pytest.mark.parametrize("opset", [7, 11, 13, 17, 20, 24])
def test_convolutions_run_in_float64_in_the_evaluator(opset: int) -> None:
    model = classifier(opset=opset)
    inputs = run_reference_onnx(model.SerializeToString(), RANDOM)
    assert {given.precision for given in inputs} == {"onnx_float64"}
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    tensors = {name: torch.from_numpy(w.copy()).double() for name, w in weights.items()}
    x = torch.from_numpy(inputs[1].x).double()
    y = nn.functional.conv2d(x, tensors["w"], padding=1)
    mean, variance = tensors["mean"], tensors["variance"]
    y = nn.functional.batch_norm(y, mean, variance, tensors["scale"], tensors["shift"])
    wanted = y.relu().mean((2, 3)) @ tensors["fc"] + tensors["bias"]
    # epsilon is a float32 in the file
    np.testing.assert_allclose(inputs[1].reference, wanted.numpy(), rtol=1e-11)
    parity = check_outputs(model, inputs)
    assert parity.passed
    assert parity.reference == "onnx_float64"
    assert all(0 < case.error == case.torch_error for case in parity.cases if case.batch_size == 32)


@pytest.mark.parametrize("stash", ["", ", stash_type = 1"])
def test_layer_normalization_after_a_convolution_runs_in_float64(stash: str) -> None:
    model = parse_model(
        '<ir_version: 10, opset_import: ["": 20]> '
        "g (float[n, 3, 8, 8] x) => (float[n, 4] y) "
        f"{{ c = Conv(x, w) l = LayerNormalization<axis = 1, epsilon = 0.5{stash}>(c, scale, bias)"
        " y = ReduceMean<keepdims = 0>(l, axes) }"
    )
    random = np.random.default_rng(2)
    weights = {
        "w": random.standard_normal((4, 3, 1, 1)).astype(np.float32),
        "scale": random.standard_normal((4, 8, 8)).astype(np.float32),
        "bias": random.standard_normal((4, 8, 8)).astype(np.float32),
    }
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model.graph.initializer.extend([*tensors, numpy_helper.from_array(np.array([2, 3]), "axes")])
    inputs = run_reference_onnx(model.SerializeToString(), RANDOM)
    assert {given.precision for given in inputs} == {"onnx_float64"}
    w, scale, bias = (torch.from_numpy(array).double() for array in weights.values())
    y = nn.functional.conv2d(torch.from_numpy(inputs[1].x).double(), w)
    wanted = nn.functional.layer_norm(y, (4, 8, 8), scale, bias, 0.5).mean((2, 3))
    np.testing.assert_allclose(inputs[1].reference, wanted.numpy(), rtol=1e-11)


def test_dense_networks_run_in_float64_in_onnxruntime() -> None:
    inputs = run_reference_onnx(dense(), RANDOM)
    assert {given.precision for given in inputs} == {"ort_float64"}
    weight = numpy_helper.to_array(dense().graph.initializer[0]).astype(np.float64)
    flat = inputs[0].x.reshape(len(inputs[0].x), -1).astype(np.float64)
    np.testing.assert_allclose(inputs[0].reference, np.maximum(flat @ weight, 0), rtol=1e-12)


def test_an_operator_that_is_not_of_onnx_leaves_float32() -> None:
    model = dense("y = com.microsoft.Gelu(r)")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    inputs = run_reference_onnx(model, RANDOM)
    assert {given.precision for given in inputs} == {"ort_float32"}
    assert check_outputs(model, inputs).reference == "ort_float32"
    assert not check_outputs(model, inputs).is_exact


def test_answers_in_float64_are_refused_for_an_operator_that_is_not_of_onnx(
    tmp_path: Path,
) -> None:
    model = dense("y = com.microsoft.Gelu(r)")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ExportError, match="float64"):
        answer_in_float64(tmp_path / "a.onnx", [RANDOM])


@pytest.mark.parametrize(
    "more",
    [
        "c = Cast <to = 1> (r) y = Identity(c)",
        "half = Cast <to = 10> (r) y = Cast <to = 1> (half)",
        "two = Constant <value_float = 2.5> () y = Mul(r, two)",
        "s = Shape(r) z = ConstantOfShape(s) y = Sub(r, z)",
        "s = Shape(r) z = ConstantOfShape <value = float[1] {1.5}> (s) y = Sub(r, z)",
        "two = Constant <value_floats = [2.0, 3.0, 4.0, 5.0, 6.0]> () y = Mul(r, two)",
        "k = Constant <value = float {0.1}> () z = CastLike(k, r) y = Add(r, z)",
        "a = Clip(r) b = Softmax <axis = 1> (a) y = Identity(b)",
    ],
)
def test_what_names_float32_inside_the_graph_is_widened(more: str) -> None:
    model = dense(more)
    exact = to_float64(model)
    onnx.checker.check_model(exact)
    inputs = run_reference_onnx(model, RANDOM)
    assert inputs[0].precision in ("ort_float64", "onnx_float64")
    assert check_outputs(model, inputs).passed


def test_operators_without_float64_are_given_float32() -> None:
    model = dense(
        "scale = Constant <value = float {0.05}> () zero = Constant <value = uint8 {100}> () "
        "q = QuantizeLinear(r, scale, zero) d = DequantizeLinear(q, scale, zero) y = Identity(d)"
    )
    inputs = run_reference_onnx(model, RANDOM)
    assert inputs[0].precision == "ort_float64"
    assert check_outputs(model, inputs).passed
    resize = classifier(names=("x", "y"))
    resize.graph.node.insert(
        0, helper.make_node("Resize", ["images", "", "twice"], ["x"], mode="nearest")
    )
    resize.graph.input[0].name = "images"
    twice = np.array([1, 1, 2, 2], np.float32)
    resize.graph.initializer.append(numpy_helper.from_array(twice, "twice"))
    inputs = run_reference_onnx(resize, RANDOM)
    assert inputs[0].precision == "onnx_float64"
    assert check_outputs(resize, inputs).passed


def test_functions_and_branches_are_widened_too() -> None:
    model = dense("y = mine.Half(r)")
    body = parse_model(
        '<ir_version: 8, opset_import: ["": 20]> g (float[n, 5] a) => (float[n, 5] b) '
        "{ two = Constant <value_float = 2.0> () b = Div(a, two) }"
    ).graph.node
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("mine", "Half", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    assert run_reference_onnx(model, RANDOM)[0].precision == "ort_float64"
    branches = [
        helper.make_graph(
            [helper.make_node("Constant", [], ["k"], value_float=number),
             helper.make_node("Mul", ["r", "k"], ["o"])],
            "branch", [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, ["n", 5])],
        )
        for number in (2.0, 3.0)
    ]  # fmt: skip
    choice = dense("always = Constant <value = bool {1}> () y = Identity(r)")
    choice.graph.node[-1].CopyFrom(
        helper.make_node("If", ["always"], ["y"], then_branch=branches[0], else_branch=branches[1])
    )
    assert run_reference_onnx(choice, RANDOM)[0].precision == "ort_float64"


NODES = [
    ("Conv", (6, 1, 3, 3), {"strides": [2, 2], "pads": [1, 0, 1, 0], "group": 3}),
    ("Conv", (4, 3, 2, 2), {"dilations": [2, 2]}),
    ("Conv", (4, 3, 3, 3), {"pads": [0, 1, 2, 0]}),
    ("MaxPool", None, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", None, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", None, {"kernel_shape": [3, 2], "strides": [2, 1]}),
    ("AveragePool", None, {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}),
    ("AveragePool", None, {"kernel_shape": [3, 3], "pads": [1] * 4}),
]


@pytest.mark.parametrize(("op_type", "weight", "attributes"), NODES, ids=str)
def test_the_evaluator_computes_in_float64_what_onnxruntime_does_in_float32(
    op_type: str, weight: tuple | None, attributes: dict
) -> None:
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", None, None, None]) for n in "xy"
    )
    w = np.random.default_rng(2).standard_normal(weight or ()).astype(np.float32)
    constants = [numpy_helper.from_array(w, "w")] if weight else []
    node = helper.make_node(op_type, ["x", "w"] if weight else ["x"], ["y"], **attributes)
    opsets = [helper.make_opsetid("", 20)]
    graph = helper.make_graph([node], "one", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (exact,) = run_in_evaluator(to_float64(model), ["y"])(RANDOM)
    (rough,) = run_in_onnxruntime(model, ["y"])(RANDOM)
    assert exact.dtype == np.float64
    np.testing.assert_allclose(exact, rough, rtol=1e-4, atol=1e-5)
    assert (exact != rough).any() or op_type == "MaxPool"


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_padding_that_is_computed_is_the_evaluators_own(auto_pad: str) -> None:
    model = classifier()
    conv = model.graph.node[0]
    del conv.attribute[:]
    conv.attribute.append(helper.make_attribute("auto_pad", auto_pad))
    conv.attribute.append(helper.make_attribute("strides", [2, 2]))
    inputs = run_reference_onnx(model, RANDOM)
    assert inputs[0].precision == "onnx_float64"
    assert check_outputs(model, inputs).passed


def test_a_fixed_batch_is_the_only_one_that_is_asked_for() -> None:
    model = classifier(batch=2, head="reshape")
    inputs = run_reference_onnx(model, RANDOM, batch=2)
    assert {len(given.x) for given in inputs} == {2}
    assert {given.kind for given in inputs} == {"images", "random", "extreme"}
    assert check_outputs(model, inputs).passed
    one_image = run_reference_onnx(model, RANDOM[:1], batch=2)
    np.testing.assert_array_equal(one_image[0].x[0], one_image[0].x[1])


def test_float16_inside_is_allowed_the_error_that_it_has() -> None:
    model = classifier(dtype=TensorProto.FLOAT16)
    inputs = run_reference_onnx(model, RANDOM)
    assert inputs[0].precision == "onnx_float64"
    parity = check_outputs(model, inputs)
    assert parity.passed
    assert max(case.torch_error for case in parity.cases) > 1e-5
    wrong = classifier(dtype=TensorProto.FLOAT16)
    bias = next(t for t in wrong.graph.initializer if t.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float16(1), "bias"))
    assert not check_outputs(wrong, inputs).passed


def test_a_network_with_another_answer_each_time_is_refused() -> None:
    model = dense("n = RandomNormalLike(r) y = Add(r, n)")
    with pytest.raises(ExportError, match="onnxruntime against itself"):
        run_reference_onnx(model, RANDOM)


def test_the_graph_stays_as_it_was() -> None:
    model = classifier()
    before = model.SerializeToString()
    to_float64(model)
    assert model.SerializeToString() == before
    assert run_in_onnxruntime(model, ["scores"])(RANDOM)[0].shape == (6, 5)

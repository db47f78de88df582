"""The pass `fold_batchnorm`: what it folds, what it leaves, and the numbers it then computes."""

import re

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from foldbench.bench.records import Preprocessing
from foldbench.exporters.image_input import add_preprocessing, applied_before
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes.fold_batchnorm import apply

NORM = "BatchNormalization (h, scale, shift, mean, var)"
CHANNELS = 6


def numbers(name: str, *shape: int) -> onnx.TensorProto:
    seed = sum(map(ord, name))
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if name == "var":
        values = np.abs(values) + np.float32(0.1)
    return onnx.numpy_helper.from_array(values, name)


def graph(
    body: str,
    takes: str = "float[n, 4] x",
    gives: str = "float[n, 6] y",
    opset: int = 20,
    **weights: tuple[int, ...],
) -> onnx.ModelProto:
    model = parse_model(
        f'<ir_version: 10, opset_import: ["": {opset}]> g ({takes}) => ({gives}) {{ {body} }}'
    )
    weights = {**dict.fromkeys(("scale", "shift", "mean", "var"), (CHANNELS,)), **weights}
    model.graph.initializer.extend(numbers(name, *shape) for name, shape in weights.items())
    return model


IMAGES = {"takes": "float[n, 4, 5, 5] x", "gives": "float[n, 6, p, q] y"}
FOLDED = {
    "Gemm": graph(f"h = Gemm(x, w, b) y = {NORM}", w=(4, 6), b=(6,)),
    "Gemm, transposed, alpha and beta": graph(
        f"h = Gemm <transB = 1, alpha = 0.5, beta = 3.0> (x, w, b) y = {NORM}", w=(6, 4), b=(1, 6)
    ),
    "Gemm without a bias": graph(f"h = Gemm(x, w) y = {NORM}", w=(4, 6)),
    "Gemm with one number as bias": graph(f"h = Gemm(x, w, b) y = {NORM}", w=(4, 6), b=()),
    "MatMul": graph(f"h = MatMul(x, w) y = {NORM}", w=(4, 6)),
    "MatMul and Add": graph(f"m = MatMul(x, w) h = Add(m, b) y = {NORM}", w=(4, 6), b=(6,)),
    "Add the other way round": graph(
        f"m = MatMul(x, w) h = Add(b, m) y = {NORM}", w=(4, 6), b=(1, 6)
    ),
    "Conv": graph(f"h = Conv(x, w, b) y = {NORM}", **IMAGES, w=(6, 4, 3, 3), b=(6,)),
    "Conv in groups, no bias": graph(
        f"h = Conv <group = 2> (x, w) y = {NORM}", **IMAGES, w=(6, 2, 3, 3)
    ),
    "Conv of one dimension": graph(
        f"h = Conv(x, w) y = {NORM}",
        takes="float[n, 4, 7] x",
        gives="float[n, 6, p] y",
        w=(6, 4, 3),
    ),
    "Conv with a bias of zeros that is computed": graph(
        "z = Constant <value = float {0.0}> () s = Constant <value = int64[1] {6}> () "
        f"e = Expand(z, s) h = Conv(x, w, e) y = {NORM}",
        **IMAGES,
        w=(6, 4, 3, 3),
    ),
    "ConvTranspose": graph(
        f"h = ConvTranspose <strides = [2, 2]> (x, w, b) y = {NORM}",
        **IMAGES,
        w=(4, 6, 3, 3),
        b=(6,),
    ),
    "ConvTranspose in groups": graph(
        f"h = ConvTranspose <group = 2> (x, w) y = {NORM}", **IMAGES, w=(4, 3, 3, 3)
    ),
}


def run(model: onnx.ModelProto, seed: int = 1) -> list[np.ndarray]:
    session = open_session(model.SerializeToString())
    (given,) = session.get_inputs()
    shape = [3, *given.shape[1:]]
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return session.run(None, {given.name: x})


@pytest.mark.parametrize("case", FOLDED)
def test_it_folds(case: str) -> None:
    model = FOLDED[case]
    folded, report = apply(model)
    assert (report.changed, "left" in report.detail) == (1, False)
    onnx.checker.check_model(folded, full_check=True)
    assert len(folded.graph.node) == 1
    assert {"mean", "var"}.isdisjoint(i.name for i in folded.graph.initializer)
    (expected,), (found,) = run(model), run(folded)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


SQUARE = {"takes": "float[n, 6, 5, 5] x", "gives": "float[n, 6, p, q] y"}
ROUND = "Conv <pads = [1, 1, 1, 1]>"
AVERAGE = "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = {}>"
TOKENS = {"takes": "float[n, 5, 4] x", "gives": "float[n, 5, 6] y"}
LAYER_NORM = "h = LayerNormalization(x, g, s)"
AFFINE = {"g": (4,), "s": (4,)}
LINEAR = {
    "RepVGG": (
        graph(
            f"a = {ROUND} (x, w) h = Conv(x, v, b) bn = {NORM} "
            "i = BatchNormalization (x, shift, mean, scale, var) s = Add(a, bn) y = Add(s, i)",
            **SQUARE,
            w=(6, 6, 3, 3),
            v=(6, 6, 1, 1),
            b=(6,),
        ),
        ["Conv"],
    ),
    "a difference, scaled": (
        graph(
            f"a = {ROUND} (x, w) d = Sub(a, x) e = Mul(d, g) y = Add(x, e)",
            **SQUARE,
            w=(6, 6, 3, 3),
            g=(6, 1, 1),
        ),
        ["Conv"],
    ),
    "a branch that stays": (
        graph(
            f"a = {ROUND} (x, w) r = Relu(x) s = Sub(a, r) b1 = Conv(x, v) y = Add(s, b1)",
            **SQUARE,
            w=(6, 6, 3, 3),
            v=(6, 6, 1, 1),
        ),
        ["Relu", "Conv", "Sub"],
    ),
    "BatchNormalization before two operators": (
        graph(
            "h = BatchNormalization (x, scale, shift, mean, var) a = Conv(h, w) "
            "c = Conv <group = 2> (h, v) y = Mul(a, c)",
            **SQUARE,
            w=(6, 6, 3, 3),
            v=(6, 3, 3, 3),
        ),
        ["Conv", "Conv", "Mul"],
    ),
    "a scale before zeros": (
        graph(f"h = Div(x, g) y = {ROUND} (h, w)", **SQUARE, w=(6, 6, 3, 3), g=(1, 6, 1, 1)),
        ["Conv"],
    ),
    "averaged logits": (
        graph(
            "a = Gemm <transB = 1> (x, w, b) c = Gemm(x, v) s = Add(a, c) y = Div(s, g)",
            w=(6, 4),
            v=(4, 6),
            b=(6,),
            g=(),
        ),
        ["Gemm"],
    ),
    "a scale after tokens": (
        graph(
            "m = MatMul(x, w) a = Add(m, b) y = Mul(a, g)",
            takes="float[n, 5, 4] x",
            gives="float[n, 5, 6] y",
            w=(4, 6),
            b=(6,),
            g=(6,),
        ),
        ["MatMul", "Add"],
    ),
    "there and back": (
        graph("h = Gemm(x, w, b) y = Gemm(h, v)", w=(4, 20), b=(20,), v=(20, 6)),
        ["Gemm"],
    ),
    "1x1 before 3x3": (
        graph(f"h = Conv(x, v) y = {ROUND} (h, w)", **SQUARE, v=(20, 6, 1, 1), w=(6, 20, 3, 3)),
        ["Conv"],
    ),
    "an average after 1x1 beside 3x3": (
        graph(
            f"a = {ROUND} (x, w) c = Conv(x, v) p = {AVERAGE.format(1)} (c) y = Add(a, p)",
            **SQUARE,
            w=(6, 6, 3, 3),
            v=(6, 6, 1, 1),
        ),
        ["Conv"],
    ),
    "a LayerNormalization before two products": (
        graph(
            f"{LAYER_NORM} m = MatMul(h, w) a = Add(m, b) c = MatMul(h, v) d = Add(c, b) "
            "y = Mul(a, d)",
            **TOKENS,
            **AFFINE,
            w=(4, 6),
            v=(4, 6),
            b=(6,),
        ),
        ["LayerNormalization", "MatMul", "Add", "MatMul", "Add", "Mul"],
    ),
}


@pytest.mark.parametrize("case", LINEAR)
def test_it_folds_what_is_linear(case: str) -> None:
    model, left = LINEAR[case]
    folded, report = apply(model)
    onnx.checker.check_model(folded, full_check=True)
    assert sorted(node.op_type for node in folded.graph.node) == sorted(left)
    assert report.changed > 0
    (expected,), (found,) = run(model), run(folded)
    np.testing.assert_allclose(found, expected, atol=4e-6 * np.abs(expected).max())
    again, second = apply(folded)
    assert (second.changed, again) == (0, folded)


LAYER_NORMS = {
    "another operator reads it": graph(
        f"{LAYER_NORM} m = MatMul(h, w) a = Add(m, b) y = Mul(h, a)",
        takes="float[n, 5, 4] x",
        gives="float[n, 5, 4] y",
        **AFFINE,
        w=(4, 4),
        b=(4,),
    ),
    "a product without a bias": graph(
        f"{LAYER_NORM} y = MatMul(h, w)", **TOKENS, **AFFINE, w=(4, 6)
    ),
}


@pytest.mark.parametrize("case", LAYER_NORMS)
def test_a_layer_normalization_stays_where_it_would_be_wrong_or_dearer(case: str) -> None:
    same, report = apply(LAYER_NORMS[case])
    assert (report.changed, same) == (0, LAYER_NORMS[case])


def test_one_after_the_other_is_folded_as_well() -> None:
    body = f"h = Gemm(x, w, b) h2 = {NORM} y = BatchNormalization(h2, mean, shift, scale, var)"
    model = graph(body, w=(4, 6), b=(6,))
    folded, report = apply(model)
    assert (report.changed, [n.op_type for n in folded.graph.node]) == (2, ["Gemm"])
    (expected,), (found,) = run(model), run(folded)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def test_weights_that_another_operator_reads_too_stay_for_that_one() -> None:
    body = f"h = Gemm(x, w, b) a = {NORM} c = Gemm(x, w, b) y = Mul(a, c)"
    model = graph(body, w=(4, 6), b=(6,))
    folded, report = apply(model)
    assert report.changed == 1
    assert {"w", "b"} <= {i.name for i in folded.graph.initializer}
    (expected,), (found,) = run(model), run(folded)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def not_finite() -> onnx.ModelProto:
    model = FOLDED["Gemm"]
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name == "var":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(6, -1, np.float32), "var"))
    return changed


LEFT = {
    "its input is read elsewhere": (
        graph(f"h = Gemm(x, w, b) a = {NORM} y = Add(a, h)", w=(4, 6), b=(6,)),
        "used elsewhere",
    ),
    "its input is an output": (
        graph(f"h = Gemm(x, w) y = {NORM}", gives="float[n, 6] y, float[n, 6] h", w=(4, 6)),
        "used elsewhere",
    ),
    "after a pool": (
        graph(
            f"c = Conv(x, w) h = MaxPool <kernel_shape = [2, 2]> (c) y = {NORM}",
            **IMAGES,
            w=(6, 4, 3, 3),
        ),
        "it follows MaxPool",
    ),
    "at the beginning": (
        graph("y = BatchNormalization (x, scale, shift, mean, var)", takes="float[n, 6] x"),
        "an input of the graph",
    ),
    "after a sum": (
        graph(f"h = Add(x, x) y = {NORM}", takes="float[n, 6] x"),
        "it follows Add",
    ),
    "weights from outside": (
        graph(f"h = Gemm(x, w) y = {NORM}", takes="float[n, 4] x, float[4, 6] w"),
        "weights .* not all constant",
    ),
    "parameters from outside": (
        graph(
            f"s = Abs(scale) h = Gemm(x, w) y = {NORM.replace('scale', 's')}",
            w=(4, 6),
        ),
        "parameters are not all constant",
    ),
    "training mode": (
        graph(
            "h = Gemm(x, w) y, m2, v2 = BatchNormalization <training_mode = 1> "
            "(h, scale, shift, mean, var)",
            w=(4, 6),
        ),
        "training mode",
    ),
    "MatMul of more than matrices": (
        graph(
            f"h = MatMul(x, w) y = {NORM}",
            takes="float[n, 6, 4] x",
            gives="float[n, 6, 6] y",
            w=(4, 6),
        ),
        "MatMul .* matrix",
    ),
    "a bias for each row": (
        graph(f"h = Gemm(x, w, b) y = {NORM}", takes="float[3, 4] x", w=(4, 6), b=(3, 1)),
        r"shape \(3, 1\)",
    ),
    "variance below zero": (not_finite(), "not finite"),
    "a shift before zeros": (
        graph(
            f"h = BatchNormalization (x, scale, shift, mean, var) y = {ROUND} (h, w)",
            **SQUARE,
            w=(6, 6, 3, 3),
        ),
        "zeros are put around",
    ),
    "an old opset": (
        graph(f"h = Gemm(x, w, b) y = {NORM}", opset=8, w=(4, 6), b=(6,)),
        "opset 8, 9",
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_it_leaves_with_the_reason(case: str) -> None:
    model, reason = LEFT[case]
    same, report = apply(model)
    assert report.changed == 0
    assert re.match(f"1 left .*{reason}", report.detail)
    assert same == model


def test_weights_that_can_be_given_anew_in_a_call_are_not_constant() -> None:
    model = graph(f"h = Gemm(x, w) y = {NORM}", takes="float[n, 4] x, float[4, 6] w", w=(4, 6))
    _, report = apply(model)
    assert report.changed == 0
    assert re.match(r"1 left .* not all constant$", report.detail)


def test_it_computes_in_float64() -> None:
    """mean and bias nearly cancel: in float32 the folded bias would be off by 6e-8 of either."""
    model = graph(f"h = Gemm(x, w, b) y = {NORM}", w=(4, 6), b=(6,))
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if tensor.name in ("mean", "b"):
            offset = 1e4 if tensor.name == "b" else 1e4 + 1 / 3
            values = np.full(6, offset, np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    arrays = {
        t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer
    }
    factor = arrays["scale"] / np.sqrt(arrays["var"] + 1e-5)
    exact = (arrays["b"] - arrays["mean"]) * factor + arrays["shift"]
    folded, _ = apply(model)
    bias = next(t for t in folded.graph.initializer if t.name.endswith("_bias"))
    np.testing.assert_allclose(onnx.numpy_helper.to_array(bias), exact, rtol=6e-8)


UNTOUCHED = {
    "more multiplications": (
        "a = Conv <pads = [0, 1, 0, 1]> (x, w) c = Conv <pads = [1, 0, 1, 0]> (x, v) y = Add(a, c)",
        {"w": (6, 6, 1, 3), "v": (6, 6, 3, 1)},
    ),
    "a number for each place": ("h = Conv(x, w) y = Mul(h, g)", {"w": (6, 6, 1, 1), "g": (5, 5)}),
    "a number for each column": ("h = Conv(x, w) y = Mul(h, g)", {"w": (6, 6, 1, 1), "g": (5,)}),
    "a narrow waist": ("h = Conv(x, w) y = Conv(h, v)", {"w": (1, 6, 1, 1), "v": (6, 1, 1, 1)}),
    "a bias before zeros": (
        f"h = Conv(x, w, b) y = {ROUND} (h, v)",
        {"w": (20, 6, 1, 1), "b": (20,), "v": (6, 20, 3, 3)},
    ),
    "an average that does not count zeros": (
        f"a = {ROUND} (x, w) p = {AVERAGE.format(0)} (x) y = Add(a, p)",
        {"w": (6, 6, 3, 3)},
    ),
    "an average of a bias and zeros": (
        f"a = {ROUND} (x, w) c = Conv(x, v, b) p = {AVERAGE.format(1)} (c) y = Add(a, p)",
        {"w": (6, 6, 3, 3), "v": (6, 6, 1, 1), "b": (6,)},
    ),
    "one channel beside six": (
        "h = Conv(x, w) k = Conv(x, v) y = Add(h, k)",
        {"w": (6, 6, 1, 1), "v": (1, 6, 1, 1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNTOUCHED)
def test_what_would_be_wrong_or_dearer_is_left_alone(case: str) -> None:
    body, weights = UNTOUCHED[case]
    model = graph(body, **SQUARE, **weights)
    same, report = apply(model)
    assert (report.changed, same) == (0, model)


@pytest.mark.parametrize(
    ("convolution", "left"),
    [("Conv <strides = [4, 4]>", set()), ("Conv <pads = [1, 1, 1, 1]>", {"Sub"})],
    ids=["patches", "zeros around"],
)
def test_mean_and_std_of_images_go_into_the_first_layer_where_its_borders_stay_exact(
    convolution: str, left: set[str]
) -> None:
    sides = (4, 4) if "strides" in convolution else (3, 3)
    model = parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[n, 3, 8, 8] x) => '
        f"(float[n, {128 if left else 8}] y) {{ h = {convolution} (x, w) y = Flatten (h) }}"
    )
    model.graph.initializer.append(numbers("w", 2, 3, *sides))
    how = Preprocessing(input_shape=(3, 8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1))
    whole = add_preprocessing(model, how, softmax=False)
    folded, report = apply(whole)
    assert report.changed == 2 - len(left)
    for op_type in ("Sub", "Div"):
        were, are = (sum(n.op_type == op_type for n in m.graph.node) for m in (whole, folded))
        assert were - are == (op_type not in left), op_type
    names = {"Sub": "mean", "Div": "std"}
    assert applied_before(folded) == tuple(names[op_type] for op_type in left)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    before, after = (
        open_session(m.SerializeToString()).run(None, {"image": pixels})[0] for m in (whole, folded)
    )
    np.testing.assert_allclose(after, before, atol=4e-6 * np.abs(before).max())

"""The pass `mish`: which spellings it finds, which look-alikes it leaves, and that it is right."""

import io
import re
import warnings

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.parser import parse_model
from torch.nn import functional as F

from builders import MishSpellings, make_graph, operators
from foldbench.exporters.export import ExportOptions, to_onnx
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes.mish import apply

FORM = ["Exp", "Add", "Mul", "Div", "Add", "Div"]


@pytest.mark.parametrize("exporter", ["dynamo", "as exported", "torchscript"])
def test_every_spelling_by_every_exporter_becomes_the_same_form(exporter: str) -> None:
    torch.manual_seed(0)
    network = MishSpellings().eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    if exporter == "torchscript":
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (torch.from_numpy(x),), file, dynamo=False)
        model = onnx.load_from_string(file.getvalue())
    else:
        model = to_onnx(network, x, ExportOptions(exporter == "dynamo", 20, ()))
    rewritten, report = apply(model)
    assert report.changed == 5, report.detail
    kinds = operators(rewritten)
    assert (kinds.count("Exp"), kinds.count("Div")) == (5, 10)
    assert not {"Mish", "Softplus", "Tanh", "Where", "Greater", "Log"} & set(kinds)
    session = open_session(rewritten.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: x})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, network(torch.from_numpy(x)).numpy(), atol=5e-6)


SOFTPLUS_ABOVE = "t = Constant <value_float = {}> () g = {}(x, t) s = Softplus(x) "
LEFT_ALONE = {
    "softplus read by another": (
        make_graph("s = Softplus(x) t = Tanh(s) m = Mul(x, t) y = Add(m, s)"),
        "Softplus is used",
    ),
    "tanh as an output of the graph": (
        make_graph("s = Softplus(x) t = Tanh(s) y = Mul(x, t)", more=", float[n] t"),
        "Tanh is used",
    ),
    "beta": (
        make_graph(
            "b = Constant <value_float = 2.0> () z = Mul(x, b) s = Softplus(z) d = Div(s, b) "
            "t = Tanh(d) y = Mul(x, t)"
        ),
        "beta of 2.0",
    ),
    "threshold": (
        make_graph(
            SOFTPLUS_ABOVE.format("5.0", "Greater") + "w = Where(g, x, s) h = Tanh(w) y = Mul(x, h)"
        ),
        "from 5 on, .* below 15",
    ),
    "float16": (
        make_graph("y = Mish(x)", "float16"),
        ": float16, ",
    ),
    "bfloat16": (
        make_graph("y = Mish(x)", "bfloat16", opset=22),
        ": bfloat16, ",
    ),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_a_mish_that_the_form_does_not_suit_is_left_with_the_reason(case: str) -> None:
    model, reason = LEFT_ALONE[case]
    same, report = apply(model)
    assert report.changed == 0
    assert re.match(f"1 left .*{reason}", report.detail)
    assert same == model


LOOK_ALIKES = {
    "another factor": make_graph("z = Neg(x) s = Softplus(x) t = Tanh(s) y = Mul(z, t)"),
    "softplus of something else": make_graph(
        "z = Neg(x) s = Softplus(z) t = Tanh(s) y = Mul(x, t)"
    ),
    "log of 2 + exp": make_graph(
        "c = Constant <value_float = 2.0> () e = Exp(x) a = Add(c, e) s = Log(a) t = Tanh(s) "
        "y = Mul(x, t)"
    ),
    "another operator between": make_graph("s = Softplus(x) t = Sigmoid(s) y = Mul(x, t)"),
    "another comparison": make_graph(
        SOFTPLUS_ABOVE.format("20.0", "Less") + "w = Where(g, x, s) h = Tanh(w) y = Mul(x, h)"
    ),
    "something else above the threshold": make_graph(
        SOFTPLUS_ABOVE.format("20.0", "Greater") + "w = Where(g, t, s) h = Tanh(w) y = Mul(x, h)"
    ),
    "a Mish of another library": parse_model(
        '<ir_version: 10, opset_import: ["": 20, "custom": 1]> '
        "g (float[n] x) => (float[n] y) { y = custom.Mish(x) }"
    ),
}


@pytest.mark.parametrize("case", LOOK_ALIKES)
def test_what_is_no_mish_is_not_touched(case: str) -> None:
    same, report = apply(LOOK_ALIKES[case])
    assert (report.changed, report.detail) == (0, "no Mish found")
    assert same == LOOK_ALIKES[case]


def test_found_and_left_ones_are_counted_apart() -> None:
    model = make_graph("a = Mish(x) s = Softplus(a) t = Tanh(s) m = Mul(a, t) y = Add(m, s)")
    rewritten, report = apply(model)
    assert report.changed == 1
    assert re.match(r"1 written .*; 1 left", report.detail)
    assert operators(rewritten) == [*FORM, "Softplus", "Tanh", "Mul", "Add"]


def test_the_outputs_name_and_the_names_that_are_taken_stay() -> None:
    model = make_graph("mish_1 = Identity(x) mish_2 = Mish(mish_1) y = Mish(mish_2)")
    rewritten, _ = apply(model)
    onnx.checker.check_model(rewritten, full_check=True)
    names = [o for node in rewritten.graph.node for o in node.output]
    names += [i.name for i in rewritten.graph.initializer]
    assert len(names) == len(set(names))
    assert rewritten.graph.output == model.graph.output


def test_a_mish_within_a_branch_is_found() -> None:
    branch = "if_out = Mish(x)", "else_out = Neg(x)"
    body = (
        "b = ReduceSum <keepdims = 0> (x) z = Constant <value_float = 0.0> () c = Greater(b, z) "
        f"y = If (c) <then_branch = t () => (float[n] if_out) {{ {branch[0]} }}, "
        f"else_branch = e () => (float[n] else_out) {{ {branch[1]} }}>"
    )
    rewritten, report = apply(make_graph(body))
    assert report.changed == 1
    onnx.checker.check_model(rewritten, full_check=True)
    x = np.array([-1.0, 3.0], np.float32)
    found = open_session(rewritten.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, F.mish(torch.from_numpy(x)).numpy(), rtol=1e-6)


def test_float64_is_rewritten_and_as_exact() -> None:
    model = make_graph("s = Softplus(x) t = Tanh(s) y = Mul(x, t)", "double")
    rewritten, report = apply(model)
    assert report.changed == 1
    x = np.linspace(-100, 800, 90_001)
    found = open_session(rewritten.SerializeToString()).run(None, {"x": x})[0]
    truth = F.mish(torch.from_numpy(x)).numpy()
    assert (np.abs(found - truth) / np.maximum(1, np.abs(truth))).max() < 1e-14


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-85, 100, width=32), min_size=1, max_size=40))
def test_small_results_keep_their_relative_precision(numbers: list[float]) -> None:
    x = np.array(numbers, np.float32)
    e = np.exp(x.astype(np.float64))
    truth = x * (e * (e + 2) / (e * (e + 2) + 2))
    found = SESSION.run(None, {"x": x})[0]
    np.testing.assert_allclose(found, truth, rtol=6e-7, atol=1e-37)


SESSION = open_session(apply(make_graph("y = Mish(x)"))[0].SerializeToString())

"""Random chains of ONNX operators give, fused, what they give in float64."""

from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from builders import needs_c_compiler
from foldbench.bench.compiler.body import NUMBER, Body, BodyBuilder, parse_body
from foldbench.bench.compiler.evaluation import evaluate, evaluate_steps
from foldbench.bench.host_files.marks import OPERATORS
from foldbench.exporters.onnx_double import to_float64
from foldbench.exporters.parity import open_session
from foldbench.exporters.passes import fuse_elementwise
from foldbench.exporters.passes._graphs import fusing

SHAPE = (2, 3, 4, 5)
TENSORS = {"x": SHAPE, "r": SHAPE, "gate": (2, 3, 1, 1), "channel": (3, 1, 1), "row": (5,)}
NUMBERS = {"zero": 0.0, "half": 0.5, "one": 1.0, "two": 2.0, "minus": -0.75}
UNARY = (
    *("Abs", "Celu", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu"),
    *("Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus"),
    *("Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
)
BINARY = ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Sub")
COMPARING = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
CHAINS = 24


class Node(NamedTuple):
    operator: str
    inputs: tuple[int, ...]
    """Counted back from the node: 1 is the one before; outside of the chain, an operand."""
    others: tuple[str, ...]


def nodes() -> st.SearchStrategy[Node]:
    back, other = st.integers(1, 4), st.sampled_from([*TENSORS, *NUMBERS])
    limits = st.sampled_from([("zero", "two"), ("minus", "half")])
    return st.one_of(
        st.builds(lambda name, a: Node(name, (a,), ()), st.sampled_from(UNARY), back),
        st.builds(lambda name, a, b: Node(name, (a,), (b,)), st.sampled_from(BINARY), back, other),
        st.builds(lambda name, a, b: Node(name, (a, b), ()), st.sampled_from(BINARY), back, back),
        st.builds(
            lambda name, a, b, c: Node(f"Where {name}", (a, b, c), ()),
            st.sampled_from(COMPARING), back, back, back,
        ),
        st.builds(lambda a, ends: Node("Clip", (a,), ends), back, limits),
    )  # fmt: skip


def write(chain: list[Node], name: str) -> list[onnx.NodeProto]:
    """Return the nodes of a chain over x that ends in `name`; each reads the one before."""
    values, made = ["x"], []
    for place, node in enumerate(chain):
        back = (1, *node.inputs[1:])
        inputs = [values[-min(a, len(values))] for a in back]
        last = name if place == len(chain) - 1 else f"{name}_{place}"
        if node.operator.startswith("Where"):
            condition = f"{last}_condition"
            compare = node.operator.removeprefix("Where ")
            made.append(helper.make_node(compare, inputs[:2], [condition]))
            inputs, kind = [condition, inputs[2], inputs[0]], "Where"
        else:
            inputs, kind = [*inputs, *node.others], node.operator
        made.append(helper.make_node(kind, inputs, [last]))
        values.append(last)
    return made


def model_of(written: list[list[Node]]) -> onnx.ModelProto:
    def value(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
        sizes = ["n", *shape[1:]] if len(shape) == 4 else shape
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

    made = [write(chain, f"y{number}") for number, chain in enumerate(written)]
    graph = helper.make_graph(
        [node for group in made for node in group],
        "g",
        [value(name, shape) for name, shape in TENSORS.items()],
        [value(f"y{number}", SHAPE) for number in range(len(written))],
        [numpy_helper.from_array(np.float32(n), name) for name, n in NUMBERS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def jittered(body: Body, rng: np.random.Generator) -> Body:
    """Return `body` with every number that it computes up to a unit off."""
    builder = BodyBuilder(body.inputs)
    values = list(range(len(body.inputs)))
    for step, kind in zip(body.steps, body.kinds[len(values) :], strict=True):
        if step.operation == NUMBER:
            value = builder.number(step.number)
        else:
            value = builder.apply(step.operation, *(values[a] for a in step.arguments))
        if kind == "float":
            value = builder.apply("mul", value, 1 + rng.choice([-1, 0, 1]) * 2.0**-23)
        values.append(value)
    return builder.finish(values[-1])


def check(body: Body, inputs: list[np.ndarray], found: np.ndarray, truth: np.ndarray) -> None:
    """Hold what was `found` against the truth, as closely as float32 can be on its way."""
    rng = np.random.default_rng(0)
    spread = [evaluate(jittered(body, rng), inputs) for _ in range(16)]
    usual = np.ones(truth.shape, bool)
    for value in evaluate_steps(body, inputs):
        size = np.abs(value.astype(np.float64))
        usual &= (size == 0) | ((size > 1e-36) & (size < 1e36)) | ~np.isfinite(size)
    settled = np.isfinite(spread).all(0) & np.isfinite(truth)
    with np.errstate(invalid="ignore"):
        allowed = 2 * np.ptp(spread, axis=0) + 4 * 2.0**-23 * np.abs(truth) + 1e-30
        off = np.abs(found - truth)
    compared = usual & settled
    assert (off <= allowed)[compared].all(), body.text
    same = usual & np.isnan(truth) & np.isnan(spread).all(0)
    assert np.isnan(found[same]).all(), body.text


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 2, size).astype(np.float32) for name, size in TENSORS.items()}


@needs_c_compiler
@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.lists(st.lists(nodes(), min_size=2, max_size=12), min_size=CHAINS, max_size=CHAINS))
def test_they_agree_with_onnx_in_float64(
    inputs: dict[str, np.ndarray], written: list[list[Node]]
) -> None:
    model = model_of(written)
    with pytest.MonkeyPatch.context() as patch:  # nothing is left to onnxruntime
        patch.setattr(fusing, "LEAST_SAVED", 0)
        patch.setattr(fusing, "optimise", ir.from_proto)
        fused, report = fuse_elementwise.apply(model)
    assert report.changed >= CHAINS - 2  # a chain may be a constant
    onnx.checker.check_model(fused, full_check=True)
    found = open_session(fused).run(None, inputs)
    wide = {name: x.astype(np.float64) for name, x in inputs.items()}
    with np.errstate(all="ignore"):
        truth = ReferenceEvaluator(to_float64(model)).run(None, wide)
    (texts,) = (p.value for p in fused.metadata_props if p.key == OPERATORS)
    bodies = {body.name: body for body in map(parse_body, texts.splitlines())}
    for node in fused.graph.node:
        if node.op_type in bodies:
            place = int(node.output[0].removeprefix("y"))
            given_to_it = [inputs[name] for name in node.input]
            check(bodies[node.op_type], given_to_it, found[place], truth[place])

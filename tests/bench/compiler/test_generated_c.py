"""What the C compiler makes of bodies, in onnxruntime, is what they mean in float64."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from builders import needs_c_compiler
from foldbench.bench.compiler.body import LANES, OPERATIONS, Body, Input, Step, parse_body
from foldbench.bench.compiler.evaluation import evaluate
from foldbench.bench.host_files import custom_operators

pytestmark = needs_c_compiler

ULP = {
    **{"exp": 1.5, "expm1": 2, "log": 1.5, "erf": 2, "tanh": 3, "sigmoid": 3, "softplus": 2.5},
    **{"mish": 4, "sqrt": 0.51, "neg": 0, "abs": 0, "floor": 0, "ceil": 0, "rint": 0, "half": 0},
}
"""As stated in kernels/arithmetic.h."""
NORMAL = 2.0**-126
ALONE = {name: Body((Input(),), (Step(name, (0,)),)) for name in ULP}

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "float32 full, float32 stays -> float32: mul(0,1)": [(2, 8, 7, 5), (2, 8, 1, 1)],
    "float32 full, float32 stays -> float32: add(0,1)": [(3, 70, 33, 5), (70, 1, 1)],
    "float32 full, float32 moves -> float32: sub(0,1)": [(5, 7, 300), (300,)],
    "float32 full, float32 moves -> float32: div(0,1)": [(4, 3, 9), (4, 1, 9)],
    "float32 full, float32 full, float32 stays -> float32: mul(1,2) add(0,3)": [
        (2, 3, 4, 4),
        (2, 3, 4, 4),
        (1,),
    ],
    "float32 full, float32 moves, float32 stays -> float32: mul(0,1) max(2,3)": [
        (2, 3, 4, 5),
        (3, 4, 5),
        (2, 1, 1, 1),
    ],
    "float32 full, float32 stays -> float32: min(0,1)": [(0, 8, 7, 5), (1, 8, 1, 1)],
    "float32 full, float32 moves -> float32: max(0,1)": [(2, 3, 1, 1), (3, 1, 1)],
    "float32 full, float32 stays -> float32: less(0,1) not(2) where(3,1,0)": [(6, 1), (1, 1)],
    "float16 full, float32 full -> float16: add(0,1)": [(3, 5), (3, 5)],
}
"""Among them axes of one element, no element at all, and extents that do not hold for the shape."""


def model_of(bodies: list[Body], ranks: list[list[int]]) -> onnx.ModelProto:
    """Return a model with an output for each body over inputs of its own."""
    types = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
    nodes, takes, gives = [], [], []
    for number, (body, lengths) in enumerate(zip(bodies, ranks, strict=True)):
        names = [f"x{number}_{place}" for place in range(len(body.inputs))]
        for name, given, rank in zip(names, body.inputs, lengths, strict=True):
            takes.append(helper.make_tensor_value_info(name, types[given.storage], [None] * rank))
        nodes.append(helper.make_node(body.name, names, [f"y{number}"], domain="foldbench"))
        gives.append(helper.make_tensor_value_info(f"y{number}", types[body.storage], None))
    graph = helper.make_graph(nodes, "g", takes, gives)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("foldbench", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


Runner = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def open_bodies(bodies: list[Body], ranks: list[list[int]]) -> Runner:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    custom_operators.register(options, [body.text for body in bodies])
    session = onnxruntime.InferenceSession(
        model_of(bodies, ranks).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda given: session.run(None, given)


def every_kind_of_number() -> np.ndarray:
    """(n,) float32: -100..100 closely, random bits, limits, denormals."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    limits = [0, np.inf, np.nan, 1e-45, 1.1e-38, 3.4e38, 1, 88.7, 88.73, 103, 104, 1e10]
    limits += [-x for x in limits]
    line = np.linspace(-100, 100, 200_001, dtype=np.float32)
    return np.concatenate([line, bits, np.array(limits, np.float32)])


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What each function gives in C and in float64."""
    x = every_kind_of_number()
    run = open_bodies(list(ALONE.values()), [[1]] * len(ALONE))
    found = run({f"x{number}_0": x for number in range(len(ALONE))})
    return {name: (y, evaluate(ALONE[name], [x])) for name, y in zip(ALONE, found, strict=True)}


def test_every_function_of_one_number_is_tested() -> None:
    assert set(ULP) == {name for name, (takes, _) in OPERATIONS.items() if takes == ("float",)}


@pytest.mark.parametrize("name", ULP)
def test_a_function_keeps_its_bound_on_every_kind_of_number(
    name: str, results: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    found, truth = results[name]
    with np.errstate(over="ignore"):
        rounded = truth.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    error = np.abs(found[finite].astype(np.float64) - truth[finite])
    normal = np.abs(truth[finite]) >= (2.0**-118 if name == "mish" else NORMAL)
    units = error[normal] / np.spacing(np.abs(rounded[finite][normal]))
    assert units.max() <= ULP[name]
    assert error[~normal].max(initial=0) <= (2.0**-118 if name == "mish" else NORMAL)


def test_inputs_lie_along_the_output_however_they_broadcast() -> None:
    bodies = [parse_body(text) for text in SHAPES]
    rng = np.random.default_rng(1)
    given = {
        f"x{number}_{place}": rng.uniform(0.5, 2, shape).astype(body.inputs[place].storage)
        for number, (body, shapes) in enumerate(zip(bodies, SHAPES.values(), strict=True))
        for place, shape in enumerate(shapes)
    }
    found = open_bodies(bodies, [[len(s) for s in shapes] for shapes in SHAPES.values()])(given)
    for number, body in enumerate(bodies):
        inputs = [given[f"x{number}_{place}"] for place in range(len(body.inputs))]
        truth = evaluate(body, inputs)
        assert (found[number].shape, found[number].dtype) == (truth.shape, body.storage)
        exact = 2.0**-10 if body.storage == "float16" else 2.0**-22
        np.testing.assert_allclose(found[number], truth, rtol=exact)


def test_shapes_that_do_not_broadcast_are_refused_when_they_come() -> None:
    run = open_bodies([parse_body("float32 full, float32 stays -> float32: mul(0,1)")], [[2, 2]])
    for wrong in ((3, 2), (5, 4, 1)[:2]):
        with pytest.raises(Exception, match="does not broadcast"):
            run({"x0_0": np.ones((5, 3), np.float32), "x0_1": np.ones(wrong, np.float32)})


def blocked(x: np.ndarray, lanes: int) -> np.ndarray:
    """Return (N, C, H, W) as it lies with channels in blocks, still called (N, C, H, W)."""
    n, channels, height, width = x.shape
    blocks = x.reshape(n, channels // lanes, lanes, height, width)
    return np.ascontiguousarray(np.moveaxis(blocks, 2, -1)).reshape(x.shape)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize(
    ("shape", "gate"),
    [
        ((2, 48, 5, 3), (2, 48, 1, 1)),
        ((3, 16, 1, 7), (1, 16, 1, 1)),
        ((2, 32, 40, 41), (32, 1, 1)),
        ((2, 32, 1, 1), (2, 32, 1, 1)),
    ],
)
def test_lanes_are_numbers_for_channels_in_blocks(
    lanes: int, shape: tuple[int, ...], gate: tuple[int, ...]
) -> None:
    steps = "exp(2) mul(0,3) add(4,1)"
    whole, of_channel = "float32 full", f"float32 {LANES[lanes]}"
    body = parse_body(f"{whole}, {whole}, {of_channel} -> float32: {steps}")
    rng = np.random.default_rng(2)
    x, y, z = (rng.uniform(0.5, 2, s).astype(np.float32) for s in (shape, shape, gate))
    run = open_bodies([body], [[len(shape), len(shape), len(gate)]])
    (found,) = run({"x0_0": blocked(x, lanes), "x0_1": blocked(y, lanes), "x0_2": z})
    assert found.shape == shape
    np.testing.assert_allclose(found, blocked(evaluate(body, [x, y, z]), lanes), rtol=2.0**-20)


@pytest.mark.parametrize(
    ("shape", "gate"),
    [
        ((1, 12, 2, 2), (1, 12, 1, 1)),
        ((1, 16, 2, 2), (1, 16, 2, 2)),
        ((1, 16, 2, 2), (1, 1, 1, 1)),
        ((16, 2, 2), (16, 1, 1)),
    ],
)
def test_what_is_no_number_for_each_channel_in_whole_blocks_is_refused(
    shape: tuple[int, ...], gate: tuple[int, ...]
) -> None:
    body = parse_body("float32 full, float32 lanes8 -> float32: mul(0,1)")
    run = open_bodies([body], [[len(shape), len(gate)]])
    with pytest.raises(Exception, match="has to have"):
        run({"x0_0": np.ones(shape, np.float32), "x0_1": np.ones(gate, np.float32)})


def test_the_source_is_the_same_for_the_same_bodies_in_any_order() -> None:
    bodies = [*ALONE.values()]
    source = custom_operators.write_source(bodies)
    assert custom_operators.write_source([*bodies[::-1], bodies[0]]) == source

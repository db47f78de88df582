"""The pass `merge_moves`: any chain of movements is one copy of rows, bit for bit."""

from math import prod

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes.merge_moves import LEAST_ROW, apply

Step = tuple[str, int, int]
MOVED = ("Transpose", "Slice", "Concat", "Gather", "Split", "Pad")


class Writer:
    """A graph of movements, and the shape of its last value without the batch."""

    def __init__(self, *shape: int, batch: int | str = "n") -> None:
        self.shape = list(shape)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.value = self.add("Relu", ["x"])
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])

    def constant(self, *numbers: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
        return name

    def add(self, operator: str, inputs: list[str], **given) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **given))
        return output

    def reshape(self, *shape: int) -> None:
        self.shape = list(shape)
        self.value = self.add("Reshape", [self.value, self.constant(-1, *shape)])

    def transpose(self, *order: int) -> None:
        self.value = self.add("Transpose", [self.value], perm=[0, *(1 + axis for axis in order)])
        self.shape = [self.shape[axis] for axis in order]

    def cut(self, axis: int, first: int, last: int) -> str:
        bounds = (self.constant(number) for number in (first, last, axis + 1))
        return self.add("Slice", [self.value, *bounds])

    def step(self, kind: str, a: int, b: int) -> None:
        """Make a movement, which one by two numbers."""
        axis = a % len(self.shape)
        size = self.shape[axis]
        if kind == "swap":
            other = b % len(self.shape)
            order = list(range(len(self.shape)))
            order[axis], order[other] = order[other], order[axis]
            self.transpose(*order)
        elif kind == "roll":
            at = b % size
            parts = [self.cut(axis, at, size), self.cut(axis, 0, at)] if at else [self.value]
            self.value = self.add("Concat", parts, axis=axis + 1)
        elif kind == "divide":
            divisors = [d for d in range(1, size + 1) if size % d == 0]
            d = divisors[b % len(divisors)]
            self.reshape(*self.shape[:axis], size // d, d, *self.shape[axis + 1 :])
        elif kind == "join" and axis + 1 < len(self.shape):
            self.reshape(*self.shape[:axis], size * self.shape[axis + 1], *self.shape[axis + 2 :])
        elif kind == "take":
            taken = [(b + 3 * k) % size for k in range(1 + b % size)]
            self.value = self.add("Gather", [self.value, self.constant(*taken)], axis=axis + 1)
            self.shape[axis] = len(taken)
        elif kind == "pad":
            nothing = self.constant(*[0] * (2 * len(self.shape) + 2))
            self.value = self.add("Pad", [self.value, nothing])

    def model(self) -> onnx.ModelProto:
        y = self.add("Neg", [self.value])
        batch = self.input.type.tensor_type.shape.dim[0]
        sizes = [batch.dim_value or batch.dim_param, *self.shape]
        output = helper.make_tensor_value_info(y, TensorProto.FLOAT, sizes)
        graph = helper.make_graph(self.nodes, "g", [self.input], [output], self.constants)
        opset = [helper.make_opsetid("", 20)]
        return helper.make_model(graph, opset_imports=opset, ir_version=10)


def moving(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type in MOVED]


def run(model: onnx.ModelProto, count: int) -> np.ndarray:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(count).standard_normal((count, *shape)).astype(np.float32)
    return open_session(model).run(None, {"x": x})[0]


def steps() -> st.SearchStrategy[list[Step]]:
    kinds = st.sampled_from(["swap", "roll", "divide", "join", "take", "pad"])
    return st.lists(st.tuples(kinds, st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(taken=steps(), sizes=st.lists(st.sampled_from([2, 3, 4, 6]), min_size=1, max_size=3))
def test_any_chain_gives_the_same_numbers(taken: list[Step], sizes: list[int]) -> None:
    writer = Writer(*sizes, 32)
    for step in taken:
        writer.step(*step)
    model = writer.model()
    made, report = apply(model)
    onnx.checker.check_model(made, full_check=True)
    if report.changed:
        assert moving(made) in ([], ["Gather"])
        assert len(moving(made)) < max(2, len(moving(model)))
    assert apply(made)[1].changed == 0
    for count in (1, 2, 3):
        np.testing.assert_array_equal(run(made, count), run(model, count))


def windows(batch: int | str = "n") -> Writer:
    writer = Writer(8, 8, 24, batch=batch)
    writer.step("roll", 0, 3)
    writer.step("roll", 1, 3)
    writer.reshape(2, 4, 2, 4, 24)
    writer.transpose(0, 2, 1, 3, 4)
    return writer


def test_windows_of_a_rolled_image_are_one_gather() -> None:
    made, report = apply(windows().model())
    assert (report.changed, moving(made)) == (1, ["Gather"])


def test_windows_are_in_the_batch_of_what_reads_them() -> None:
    writer = windows()
    writer.value = writer.add("Reshape", [writer.value, writer.constant(-1, 16, 24)])
    writer.value = writer.add("Sigmoid", [writer.value])
    writer.value = writer.add("Reshape", [writer.value, writer.constant(-1, 64, 24)])
    writer.shape = [64, 24]
    model = writer.model()
    made, report = apply(model)
    assert (report.changed, moving(made)) == (1, ["Gather"])
    for count in (1, 3):
        np.testing.assert_array_equal(run(made, count), run(model, count))


def test_a_file_for_one_size_of_batch_stays_one() -> None:
    model = windows(batch=2).model()
    made, report = apply(model)
    assert (report.changed, moving(made)) == (1, ["Gather"])
    np.testing.assert_array_equal(run(made, 2), run(model, 2))


def test_steps_that_change_nothing_are_removed() -> None:
    writer = Writer(4, 5, 3)
    writer.step("pad", 0, 0)
    writer.transpose(1, 0, 2)
    writer.transpose(1, 0, 2)
    made, report = apply(writer.model())
    assert (report.changed, moving(made)) == (1, [])


def test_rows_that_are_too_short_stay() -> None:
    writer = Writer(LEAST_ROW - 1, LEAST_ROW - 1)
    writer.transpose(1, 0)
    model = writer.model()
    made, report = apply(model)
    assert made == model
    assert "too short" in report.detail


@pytest.mark.parametrize("slices", [1, 2])
def test_slices_alone_are_as_good_as_a_gather(slices: int) -> None:
    writer = Writer(8, 32)
    for _ in range(slices):
        writer.value = writer.cut(0, 1, writer.shape[0])
        writer.shape[0] -= 1
    model = writer.model()
    assert apply(model)[0] == model


def test_images_that_change_places_stay() -> None:
    writer = Writer(3, 32)
    writer.value = writer.add("Transpose", [writer.value], perm=[1, 0, 2])
    writer.value = writer.add("Relu", [writer.value])
    writer.value = writer.add("Transpose", [writer.value], perm=[1, 0, 2])
    model = writer.model()
    made, report = apply(model)
    assert made == model
    assert "mixed" in report.detail


def test_numbers_of_a_row_are_counted_once() -> None:
    writer = Writer(4, 6, 32)
    writer.transpose(1, 0, 2)
    made, _ = apply(writer.model())
    order = next(
        numpy_helper.to_array(c) for c in made.graph.initializer if c.name.endswith("_order")
    )
    assert len(order) == prod((4, 6))

"""Operators that only move numbers: which number of what they read each number of a result is.

Networks write the same movement in many ways (views, permutations, rolls, windows, chunks). Here it
is not matched but carried out, on the numbers 0, 1, 2, ...: what comes out is the movement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator

from foldbench.bench.errors import one_line
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    array_of,
    is_op,
    opset_of,
    scalar_of,
)

_CHEAP = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""They leave the order in memory as it is."""
_MOVES = (*_CHEAP, "Concat", "Gather", "Slice", "Split", "Transpose")
_SCALES = ("Div", "Mul")
_TRIED = (1, 2)
"""Images in a batch: what holds for both holds for any number."""

Ints = npt.NDArray[np.int64]
_Shapes = dict[int, dict[ir.Value, tuple[int, ...]]]
"""Of all values, by the number of images."""


@dataclass(frozen=True)
class Movement:
    """Where the numbers of a value come from."""

    source: ir.Value
    indices: tuple[Ints, ...]
    """In the source, flat, in the shape of the value, for each number of images of `counts`."""
    size: int
    """How many numbers the source has for one image."""
    scale: float
    """By which all of them are multiplied on the way."""
    nodes: tuple[ir.Node, ...]
    """That do it."""

    @property
    def index(self) -> Ints:
        """Return the index for one image; raise PassRefusedError where images are mixed."""
        first, *more = self.indices
        for both in more:
            if not np.array_equal(both.ravel(), np.concatenate((first, first + self.size), None)):
                raise PassRefusedError("images of a batch are mixed")
        return first


class Movements:
    """The movements in one graph, whose shapes are found by running it.

    A graph of one input, the batch first; it runs for any number of images or for one. Everything
    raises PassRefusedError for a graph that is not like that.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._shapes: _Shapes | PassRefusedError | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of images that the graph runs with, of those that are tried."""
        return tuple(self._known())

    def shape(self, value: ir.Value, images: int) -> tuple[int, ...]:
        """Return the shape of `value` for that many images, one of `counts`."""
        return self._known()[images][value]

    def replace(self, old: ir.Value, nodes: Sequence[ir.Node]) -> None:
        """Put `nodes`, the last of which gives what `old` is, before the node that made `old`."""
        (new,), maker = nodes[-1].outputs, old.producer()
        assert maker is not None  # inputs of the graph stay
        self._model.graph.insert_before(maker, nodes)
        new.type, new.shape = old.type, old.shape
        ir.convenience.replace_all_uses_with(old, new)
        new.name, old.name = old.name, f"{old.name}_before"
        for shapes in self._known().values():
            shapes[new] = shapes[old]

    def read(self, value: ir.Value, scaled: bool = False) -> Movement:
        """Return where `value` comes from, as far back as numbers are only moved.

        If `scaled`, also through operators that multiply all of them by one number.
        """
        way = trace(value, scaled)
        if way is None:
            raise PassRefusedError("its numbers come from several values, or a constant")
        source, scale, nodes = way
        found = []
        for images in self.counts:
            shape = self.shape(source, images)
            numbers = np.arange(prod(shape), dtype=np.int64).reshape(shape)
            found.append(self._evaluate(value, {source: numbers}, images, without=_SCALES))
        size = prod(self.shape(source, self.counts[0]))
        return Movement(source, tuple(found), size, scale, nodes)

    def affine(self, value: ir.Value, source: ir.Value) -> tuple[float, npt.NDArray[np.float32]]:
        """Return a number and an array such that `value` is ``number * source + array``.

        Each of `value` is of the same place in memory of `source`, float32; the array is in the
        shape of `source` for one image. Raises PassRefusedError where it is something else.
        """
        found: list[npt.NDArray[np.float32]] = []
        factor = 1.0
        random = np.random.default_rng(0)
        for images in self.counts:
            shape = self.shape(source, images)
            x = random.standard_normal(shape).astype(np.float32)
            given = (np.zeros_like(x), np.ones_like(x), x)
            at_zero, at_one, y = (
                self._evaluate(value, {source: one}, images).reshape(shape) for one in given
            )
            finite = np.isfinite(at_zero)  # a mask of -inf hides the factor
            factor = float(np.median(at_one[finite] - at_zero[finite])) if finite.any() else np.nan
            if not np.allclose(y, factor * x + at_zero, rtol=1e-5, atol=1e-5 * abs(factor)):
                raise PassRefusedError("its scores are changed by more than constants")
            found.append(at_zero)
        if any(not np.array_equal(both, np.concatenate((found[0],) * 2)) for both in found[1:]):
            raise PassRefusedError("what is added to its scores differs between images")
        return factor, found[0]

    def _evaluate(
        self,
        value: ir.Value,
        feeds: Mapping[ir.Value, npt.NDArray],
        images: int,
        without: Sequence[str] = (),
    ) -> npt.NDArray:
        """Return `value` for that many images, where `feeds` hold what they hold.

        Operators of the types `without` give their input that is not constant.
        """
        fed = dict(feeds)
        nodes: dict[ir.Node, None] = {}
        constants: dict[str, npt.NDArray] = {}
        waiting = [value]
        while waiting:
            value_read = waiting.pop()
            node = value_read.producer()
            if value_read in fed or node in nodes:
                continue
            if (array := array_of(value_read)) is not None:
                constants[_name(value_read)] = array
            elif is_op(node, "Shape"):
                assert node is not None
                assert node.inputs[0] is not None
                start = node.attributes.get_int("start", 0)
                end = node.attributes.get_int("end", None)
                shape = self.shape(node.inputs[0], images)[start:end]
                fed[value_read] = np.array(shape, np.int64)
            elif node is None:
                raise PassRefusedError("a shape depends on more than shapes")
            else:
                nodes[node] = None
                waiting += [given for given in node.inputs if given is not None]
        ordered = [node for node in self._model.graph if node in nodes]
        protos = [_plain(node) if is_op(node, *without) else ir.to_proto(node) for node in ordered]
        if not protos:
            return fed[value]
        given = {_name(one): array for one, array in fed.items()} | constants
        graph = helper.make_graph(
            protos,
            "part",
            [ValueInfoProto(name=name) for name in given],
            [ValueInfoProto(name=_name(value))],
        )
        opset = [helper.make_opsetid("", opset_of(self._model))]
        try:
            part = ReferenceEvaluator(helper.make_model(graph, opset_imports=opset))
            return np.asarray(part.run(None, given)[0])
        except Exception as error:  # whatever an operator of an old version raises
            raise PassRefusedError(f"it cannot be evaluated: {one_line(error)}") from error

    def _known(self) -> _Shapes:
        if self._shapes is None:
            try:
                self._shapes = _run_for_shapes(self._model)
            except PassRefusedError as refusal:
                self._shapes = refusal
        if isinstance(self._shapes, PassRefusedError):
            raise self._shapes
        return self._shapes


def trace(
    value: ir.Value, scaled: bool = False
) -> tuple[ir.Value, float, tuple[ir.Node, ...]] | None:
    """Return what `value` comes from, the number it is multiplied by, and the nodes on the way.

    None where it comes from several values, or from a constant.
    """
    sources: set[tuple[ir.Value, float]] = set()
    nodes: dict[ir.Node, None] = {}
    waiting = [(value, 1.0)]
    while waiting:
        value, scale = waiting.pop()
        node = value.producer()
        if scaled and node is not None and (found := _read_scale(node)):
            nodes[node] = None
            waiting.append((found[0], scale * found[1]))
        elif node is not None and moves(node):
            nodes[node] = None
            read = node.inputs if is_op(node, "Concat") else node.inputs[:1]
            waiting += [(given, scale) for given in read if given is not None]
        else:
            sources.add((value, scale))
    (source, scale), *others = sources
    constant = source.producer() is None and not source.is_graph_input()
    return None if others or constant else (source, scale, tuple(nodes))


def changes_order(node: ir.Node) -> bool:
    """Return whether `node`, of a movement, may change the order in memory."""
    return not is_op(node, *_CHEAP, *_SCALES)


def moves(node: ir.Node) -> bool:
    """Return whether `node` only moves numbers, in a way that is always the same."""
    if is_op(node, "Gather"):
        return array_of(node.inputs[1]) is not None
    if is_op(node, "Pad"):
        amounts = array_of(node.inputs[1]) if len(node.inputs) > 1 else None
        return amounts is not None and not amounts.any()
    return is_op(node, *_MOVES)


def _read_scale(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Return what `node` multiplies by one constant number, and that number."""
    if not is_op(node, *_SCALES):
        return None
    x, y = node.inputs
    factor = scalar_of(y)
    if x is not None and factor is not None:
        return x, 1 / factor if node.op_type == "Div" and factor else factor
    factor = scalar_of(x) if node.op_type == "Mul" else None
    return (y, factor) if y is not None and factor is not None else None


def _plain(node: ir.Node) -> NodeProto:
    found = _read_scale(node)
    assert found is not None  # it was passed on the way
    return helper.make_node("Identity", [_name(found[0])], [_name(node.outputs[0])])


def _name(value: ir.Value) -> str:
    assert value.name  # read from a file, or named when it was made
    return value.name


def _run_for_shapes(model: ir.Model) -> _Shapes:
    """Return the shapes of all values by the number of images that the graph runs with."""
    if len(model.graph.inputs) != 1:
        raise PassRefusedError("the graph has several inputs")
    values = [value for node in model.graph for value in node.outputs if value.name]
    proto: ModelProto = ir.to_proto(model)
    (given,) = model.graph.inputs
    batch, *rest = given.shape or (None,)
    if not all(isinstance(size, int) for size in rest) or given.dtype is None:
        raise PassRefusedError("the size of the images is not known")
    names = [f"shape of {number}" for number in range(len(values))]
    for value, name in zip(values, names, strict=True):
        proto.graph.node.append(helper.make_node("Shape", [_name(value)], [name]))
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, None))
    session = open_session(proto, optimise=False)
    found = {}
    for images in (batch,) if isinstance(batch, int) else _TRIED:
        shape = (images, *(int(size) for size in rest))
        x = np.zeros(shape, given.dtype.numpy())
        try:
            shapes = session.run(names, {_name(given): x})
        except Exception as error:  # as onnxruntime has many
            raise PassRefusedError(f"the graph does not run with {images} images") from error
        sizes = (tuple(int(size) for size in one) for one in shapes)
        found[images] = {given: shape, **dict(zip(values, sizes, strict=True))}
    return found

"""Compute attention as one operator of onnxruntime's; for this machine.

Queries, keys and values are views of what a linear layer gives; scores are scaled, a constant may
be added to them (relative positions, masks), and what comes out is put side by side again (A.
Vaswani et al., Attention is all you need, 2017). However a network writes that, it becomes
onnxruntime's MultiHeadAttention, or its Attention, with the linear layer, where something is added.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx import ModelProto

from foldbench.bench.records import PassReport, Target
from foldbench.exporters.passes._graphs.layers import Layers
from foldbench.exporters.passes._graphs.movement import Ints, Movement, Movements, moves
from foldbench.exporters.passes._graphs.optimised import rewrite_unoptimised
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    add_constant,
    array_of,
    is_op,
    is_used_outside,
    made_by,
    opset_of,
)

ERROR_BOUND = 2e-6
TARGETS = ("host",)
ONLY_FOR: Target | None = "host"

DOMAIN = "com.microsoft"
LEAST_OPSET = 15
"""Shape has bounds, and Softmax is over one dimension."""
_VERSION = 1
_RANK = 4
"""Of scores: (N, heads, queries, keys)."""
_BETWEEN = ("Add", "Div", "Mul", "Reshape", "Sub", "Unsqueeze", "Squeeze")
"""What may stand between scores and Softmax."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with attention as one operator; the copy is exact where there is none.

    Raises what onnxruntime raises on a model that it cannot run.
    """
    fusing = _Fusing()
    return rewrite_unoptimised(
        model, "fuse_attention", "attention", "as one operator each", fusing.edit
    )


_Attributes = Mapping[str, int | float | list[int]]
_TURNED: _Attributes = {"perm": [1, 0, 2]}
"""Of rows and images."""


@dataclass(frozen=True)
class _Heads:
    """Where queries, keys or values lie: ``source[n, row, first + head * size + number]``."""

    source: ir.Value
    rows: int
    width: int
    """Of a row of the source."""
    first: int
    heads: int
    size: int
    rows_first: bool
    """Whether the source is ``[row, n, ...]``."""

    @property
    def last(self) -> int:
        """Behind the last number of a row that is read."""
        return self.first + self.heads * self.size


class _Fusing:
    """Fuses the attention around one Softmax after the other."""

    def __init__(self) -> None:
        self._movements: Movements | None = None

    def edit(self, model: ir.Model, node: ir.Node) -> bool:
        """Fuse the attention around `node`, and tell whether there was one."""
        if not is_op(node, "Softmax") or node.graph is not model.graph:
            return False
        weights = node.outputs[0]
        product = _only_reader(weights, "MatMul")
        scores = _find_scores(node.inputs[0])
        if product is None or product.inputs[0] is not weights or scores is None:
            return False
        if opset_of(model) < LEAST_OPSET:
            raise PassRefusedError(f"opset {opset_of(model)}, {LEAST_OPSET} or newer is needed")
        if node.attributes.get_int("axis", -1) not in (-1, _RANK - 1):
            raise PassRefusedError("its Softmax is not over keys")
        self._movements = self._movements or Movements(model)
        self._fuse(model, node, scores, product)
        model.opset_imports[DOMAIN] = _VERSION
        return True

    def _fuse(self, model: ir.Model, softmax: ir.Node, scores: ir.Node, product: ir.Node) -> None:
        assert self._movements is not None  # edit made them
        known, one = self._movements, self._movements.counts[0]
        result = product.outputs[0]
        if len(known.shape(result, one)) != _RANK or result.dtype != ir.DataType.FLOAT:
            raise PassRefusedError("it is not of four dimensions in float32")
        read = [
            known.read(_given(*given), scaled=True)
            for given in ((scores, 0), (scores, 1), (product, 1))
        ]
        sources = [[known.shape(one.source, count) for count in known.counts] for one in read]
        queries, keys, values = (
            _heads(movement, transposed, shapes)
            for movement, transposed, shapes in zip(
                read, (False, True, False), sources, strict=True
            )
        )
        if read[2].scale != 1:
            raise PassRefusedError("its values are scaled")
        if (queries.heads, queries.size) != (keys.heads, keys.size) or (
            (values.heads, values.rows) != (keys.heads, keys.rows)
        ):
            raise PassRefusedError("its heads are shared")
        factor, added = known.affine(_given(softmax, 0), scores.outputs[0])
        making = _Making(model.graph, *self._find_end(result), known)
        scale = read[0].scale * read[1].scale * factor
        settings = {"num_heads": queries.heads, "scale": scale}
        inside = {scores, product, *(node for one in read for node in one.nodes)}
        layer = _read_layer(queries, keys, values, inside) if added.any() else None
        bias = making.bias(added, making.images_first(queries) if layer is None else layer.x)
        making.finish(
            making.multi_head(queries, keys, values, bias, settings)
            if layer is None
            else making.attention(layer, bias, settings)
        )

    def _find_end(self, result: ir.Value) -> tuple[ir.Value, bool]:
        """Return the value in which heads lie side by side again, and whether rows come first.

        It is (N, queries, heads * size), (queries, N, heads * size), or that with its first two
        dimensions as one.
        """
        assert self._movements is not None  # edit made them
        known = self._movements
        numbers = [_numbered(known.shape(result, count)) for count in known.counts]
        value = result
        while (reader := _only_reader(value)) is not None and moves(reader):
            value = reader.outputs[0]
            shapes = [known.shape(value, count) for count in known.counts]
            for rows_first, order in ((False, (0, 2, 1, 3)), (True, (2, 0, 1, 3))):
                expected = [each.transpose(order) for each in numbers]
                wide = [(*each.shape[:2], prod(each.shape[2:])) for each in expected]
                flat = [(each[0] * each[1], each[2]) for each in wide]
                found = known.read(value).indices
                if shapes in (wide, flat) and all(map(_same_order, found, expected)):
                    return value, rows_first
        raise PassRefusedError("its heads are not put side by side")


@dataclass(frozen=True)
class _Linear:
    """The layer that gives queries, keys and values, each as wide, side by side."""

    x: ir.Value
    weight: ir.Value
    bias: ir.Value


class _Making:
    """The operators that take the place of what ends in `end`."""

    def __init__(self, graph: ir.Graph, end: ir.Value, rows_first: bool, known: Movements) -> None:
        self._graph, self._end, self._rows_first, self._known = graph, end, rows_first, known
        self._tape = ir.tape.Tape()
        self._turned: dict[ir.Value, ir.Value] = {}
        self._made = 0

    def images_first(self, part: _Heads) -> ir.Value:
        """Return the source of `part`, (N, rows, width)."""
        if part.rows_first and part.source not in self._turned:
            self._turned[part.source] = self._op("Transpose", [part.source], _TURNED)
        return self._turned.get(part.source, part.source)

    def bias(self, added: npt.NDArray[np.float32], x: ir.Value) -> ir.Value | None:
        """Return what is added to the scores, for as many as `x` has first; None for nothing."""
        if not added.any():
            return None
        if (added == added[:1]).all():
            return self._constant("bias", added[:1])
        bias = self._constant("bias", added)
        if len(self._known.counts) == 1:
            return bias
        shape = self._op("Shape", [x], {"start": 0, "end": 1})
        times = self._op("Div", [shape, self._constant("windows", np.array([len(added)]))])
        ones = self._constant("ones", np.ones(_RANK - 1, np.int64))
        return self._op("Tile", [bias, self._op("Concat", [times, ones], {"axis": 0})])

    def attention(self, layer: _Linear, bias: ir.Value | None, settings: _Attributes) -> ir.Value:
        """Return attention together with the linear layer before it."""
        inputs = [layer.x, layer.weight, layer.bias, None, None, bias]
        return self._op("Attention", inputs, settings, DOMAIN)

    def multi_head(
        self,
        queries: _Heads,
        keys: _Heads,
        values: _Heads,
        bias: ir.Value | None,
        settings: _Attributes,
    ) -> ir.Value:
        """Return attention on what the layers before it give."""
        parts = (queries, keys, values)
        if _side_by_side(*parts):
            given = [self.images_first(queries), self._constant("thirds", np.full(3, keys.first))]
            read = self._tape.op_multi_out(
                "Split", given, attributes={"axis": -1}, num_outputs=len(parts)
            )
            for value in read:
                self._call(value)
        else:
            read = [self._slice(part) for part in parts]
        inputs = [*read, None, None, bias]
        return self._op("MultiHeadAttention", inputs, settings, DOMAIN)

    def finish(self, value: ir.Value) -> None:
        """Put `value`, (N, queries, heads * size), in the place of the end."""
        if self._rows_first:
            value = self._op("Transpose", [value], _TURNED)
        *sizes, width = self._known.shape(self._end, self._known.counts[0])
        if len(sizes) == 1:
            shape = self._constant("shape", np.array([-1, width]))
            value = self._op("Reshape", [value, shape])
        self._known.replace(self._end, self._tape.nodes)

    def _slice(self, part: _Heads) -> ir.Value:
        source = self.images_first(part)
        if (part.first, part.last) == (0, part.width):
            return source
        bounds = [
            self._constant(name, np.array([number]))
            for name, number in (("first", part.first), ("last", part.last), ("axis", 2))
        ]
        return self._op("Slice", [source, *bounds])

    def _op(
        self,
        op_type: str,
        inputs: list[ir.Value | None],
        attributes: _Attributes | None = None,
        domain: str = "",
    ) -> ir.Value:
        return self._call(self._tape.op(op_type, inputs, attributes=attributes, domain=domain))

    def _call(self, value: ir.Value) -> ir.Value:
        value.name = f"{self._end.name}_attention_{self._made}"
        self._made += 1
        return value

    def _constant(self, what: str, array: npt.NDArray) -> ir.Value:
        return add_constant(self._graph, f"{self._end.name}_{what}", array)


def _find_scores(value: ir.Value | None) -> ir.Node | None:
    """Return the product of queries and keys that `value` is, perhaps with constants added."""
    while value is not None and _only_reader(value) is not None:
        if (product := made_by(value, "MatMul")) is not None:
            return product
        node = made_by(value, *_BETWEEN)
        varying = [x for x in node.inputs if x is not None and _varies(x)] if node else []
        value = varying[0] if len(varying) == 1 else None
    return None


def _varies(value: ir.Value) -> bool:
    """Return whether `value` depends on the images, and not on their number alone."""
    waiting, seen = [value], set()
    while waiting:
        read = waiting.pop()
        if read in seen or array_of(read) is not None:
            continue
        seen.add(read)
        node = read.producer()
        if node is None:
            return True
        if not is_op(node, "Shape"):
            waiting += [given for given in node.inputs if given is not None]
    return False


def _only_reader(value: ir.Value, *op_types: str) -> ir.Node | None:
    """Return the node that reads `value`, if there is one, and it is of `op_types` if given."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    return node if not op_types or is_op(node, *op_types) else None


def _given(node: ir.Node, place: int) -> ir.Value:
    value = node.inputs[place]
    assert value is not None  # required
    return value


def _heads(movement: Movement, transposed: bool, sources: Sequence[tuple[int, ...]]) -> _Heads:
    """Return where the numbers of (N, heads, rows, size) lie, or of the last two transposed.

    `sources` are the shapes of the source for each number of images.
    """
    indices = [each.swapaxes(-1, -2) if transposed else each for each in movement.indices]
    if indices[0].ndim != _RANK or len(sources[0]) != _RANK - 1:
        raise PassRefusedError("its queries, keys or values are not of three dimensions before it")
    _, heads, rows, size = indices[0].shape
    first, width = int(indices[0].flat[0]), sources[0][-1]
    for rows_first in (False, True):
        order = (1, 0) if rows_first else (0, 1)
        if all(
            source[:2] == tuple((len(index), rows)[axis] for axis in order)
            and _same_order(
                index.transpose(0, 2, 1, 3),
                _numbered(source)[..., first : first + heads * size].transpose(*order, 2),
            )
            for index, source in zip(indices, sources, strict=True)
        ):
            return _Heads(movement.source, rows, width, first, heads, size, rows_first)
    raise PassRefusedError("its heads do not lie side by side")


def _numbered(shape: tuple[int, ...]) -> Ints:
    return np.arange(prod(shape), dtype=np.int64).reshape(shape)


def _same_order(one: Ints, other: Ints) -> bool:
    return np.array_equal(one.ravel(), other.ravel())


def _side_by_side(queries: _Heads, keys: _Heads, values: _Heads) -> bool:
    """Return whether the three are thirds of one value, in this order, and nothing else is."""
    return (
        queries.source is keys.source is values.source
        and queries.last * 3 == keys.width
        and queries.rows == keys.rows
        and (keys.first, values.first) == (queries.last, 2 * queries.last)
        and values.last == values.width
    )


def _read_layer(
    queries: _Heads, keys: _Heads, values: _Heads, inside: Collection[ir.Node]
) -> _Linear | None:
    """Return the linear layer that gives the three, where only nodes `inside` read it."""
    if queries.rows_first or not _side_by_side(queries, keys, values):
        return None
    read = [queries.source, *(x for node in inside if moves(node) for x in node.outputs)]
    if any(is_used_outside(value, inside) for value in read):
        return None
    try:
        layer = Layers().read(queries.source.producer())
    except PassRefusedError:
        return None
    if layer is None or not layer.also:  # there is no bias
        return None
    (bias,) = (x for x in layer.also[0].inputs if x is not layer.node.outputs[0])
    numbers, weight = array_of(bias), layer.node.inputs[1]
    assert weight is not None  # a product has two
    if bias is None or numbers is None or numbers.ndim != 1:
        return None
    return _Linear(layer.source, weight, bias)

"""Convolutions and matrix products with constant weights, read as numbers and written anew."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from foldbench.exporters.folding.algebra import SAME, ZEROS, Doubles, Linear
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    add_constant,
    array_of,
    is_op,
    is_used_outside,
    made_by,
    scalar_of,
)

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, eq=False)
class Layer:
    """An operator that is a layer, and the Add of its bias where that is one more."""

    node: ir.Node
    numbers: Linear
    also: tuple[ir.Node, ...] = ()
    """Nodes after it whose work is in `numbers`."""

    @property
    def source(self) -> ir.Value:
        """What it reads."""
        source = self.node.inputs[0]
        assert source is not None
        return source

    @property
    def output(self) -> ir.Value:
        """What it gives."""
        return (self.also or (self.node,))[0].outputs[0]

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All its nodes, the last one first."""
        return (*self.also, self.node)

    @property
    def dimensions(self) -> int:
        """How many dimensions come after the features."""
        return len(self.numbers.kernel)


class Layers:
    """Reads and writes layers; what it wrote it knows in float64."""

    def __init__(self) -> None:
        self._exact: dict[ir.Value, Doubles] = {}

    def read(self, node: ir.Node | None) -> Layer | None:
        """Return the layer that ends with `node`; None where there is none.

        Raises PassRefusedError where its numbers are not constant.
        """
        if is_op(node, "Conv", "ConvTranspose"):
            return self._convolution(node)
        if is_op(node, "Gemm"):
            return self._gemm(node)
        if is_op(node, "MatMul"):
            return Layer(node, self._product(node, np.zeros(1)))
        if is_op(node, "Add"):
            return self._product_with_bias(node)
        return None

    def _convolution(self, node: ir.Node) -> Layer:
        weight = self._weight(node, 1)
        dimensions = weight.ndim - 2
        transposed = node.op_type == "ConvTranspose"
        groups = node.attributes.get_int("group", 1)
        outputs = weight.shape[1] * groups if transposed else len(weight)
        ones = [1] * dimensions
        pads = node.attributes.get_ints("pads", [0] * 2 * dimensions)
        auto = node.attributes.get_string("auto_pad", "NOTSET")
        numbers = Linear(
            weight,
            _spread(self._bias(node, 2), outputs),
            tuple(node.attributes.get_ints("strides", ones)),
            tuple(zip(pads[:dimensions], pads[dimensions:], strict=True)),
            tuple(node.attributes.get_ints("dilations", ones)),
            groups,
            SAME if auto.startswith("SAME") else ZEROS,
            transposed,
        )
        return Layer(node, numbers)

    def _gemm(self, node: ir.Node) -> Layer | None:
        if node.attributes.get_int("transA", 0):
            return None
        weight = self._weight(node, 1) * node.attributes.get_float("alpha", 1.0)
        weight = weight if node.attributes.get_int("transB", 0) else weight.T
        bias = self._bias(node, 2) * node.attributes.get_float("beta", 1.0)
        return Layer(node, Linear(weight, _spread(bias, len(weight))))

    def _product(self, node: ir.Node, bias: Doubles) -> Linear:
        weight = self._weight(node, 1)
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if weight.ndim != 2 or shape is None or len(shape) < 2:
            raise PassRefusedError("the MatMul before it is not known to give a matrix")
        return Linear(weight.T, _spread(bias, weight.shape[1]))

    def _product_with_bias(self, add: ir.Node) -> Layer | None:
        for value, other in zip(add.inputs, reversed(add.inputs), strict=True):
            node = made_by(value, "MatMul")
            if node is None or array_of(other) is None:
                continue
            if is_used_outside(node.outputs[0], (add,)):
                raise PassRefusedError("the MatMul before its Add is used elsewhere too")
            return Layer(node, self._product(node, self._constant(other)), (add,))
        return None

    def _weight(self, node: ir.Node, index: int) -> Doubles:
        return self._constant(node.inputs[index] if index < len(node.inputs) else None)

    def _bias(self, node: ir.Node, index: int) -> Doubles:
        given = node.inputs[index] if index < len(node.inputs) else None
        if given is None:
            return np.zeros(1)
        spread = made_by(given, "Expand")  # how torch's exporter writes that there is none
        number = scalar_of(spread.inputs[0]) if spread is not None else None
        return self._constant(given) if number is None else np.full(1, number)

    def _constant(self, value: ir.Value | None) -> Doubles:
        if value in self._exact:
            return self._exact[value]
        array = array_of(value)
        if array is None or array.dtype.kind != "f":
            raise PassRefusedError("the weights before it are not all constant")
        return np.asarray(array, np.float64)

    def write(
        self,
        graph: ir.Graph,
        like: Layer,
        numbers: Linear,
        source: ir.Value,
        output: ir.Value,
        old: Sequence[ir.Node],
        place: ir.Node,
    ) -> None:
        """Put a layer with `numbers` that reads `source` in the place of `old`, after `place`.

        It gives `output`, and is of the kind and type of `like`. Raises PassRefusedError before
        anything is changed.
        """
        home = place.graph
        if home is None or any(node.graph is not home for node in (*old, *like.nodes)):
            raise PassRefusedError("the operator before it is in another graph")
        given = array_of(like.node.inputs[1])
        assert given is not None  # it was read before
        attributes = _attributes(like, numbers)
        weight, bias = _round(numbers, given.dtype)
        shape = output.shape
        is_matrix = shape is not None and len(shape) == 2
        as_product = attributes is None and not is_matrix
        as_gemm = attributes is None and is_matrix  # its bias is not optional before opset 11
        weights = (weight.T, numbers.weight.T) if as_product else (weight, numbers.weight)
        inputs = [source, self._add(graph, output, *weights)]
        has_bias = as_gemm or bias.any()
        added = [self._add(graph, output, bias, numbers.bias, "bias")] if has_bias else []
        if as_product:
            nodes = [ir.Node("", "MatMul", inputs)]
            for value in added:
                product = nodes[0].outputs[0]
                product.type, product.shape = output.type, output.shape
                nodes.append(ir.Node("", "Add", [product, value]))
        else:
            kind = "Gemm" if attributes is None else like.node.op_type
            given_attributes = [ir.AttrInt64("transB", 1)] if attributes is None else attributes
            nodes = [ir.Node("", kind, [*inputs, *added], given_attributes)]
        ir.convenience.replace_nodes_and_values(
            home, place, list(old), nodes, [output], nodes[-1].outputs
        )

    def _add(
        self,
        graph: ir.Graph,
        output: ir.Value,
        array: npt.NDArray,
        exact: Doubles,
        what: str = "weight",
    ) -> ir.Value:
        value = add_constant(graph, f"{output.name}_{what}", np.ascontiguousarray(array))
        self._exact[value] = exact
        return value


def _attributes(like: Layer, numbers: Linear) -> list[ir.Attr] | None:
    """Return those of a convolution with `numbers`; None for a matrix product."""
    if not numbers.kernel:
        return None
    if numbers.geometry == like.numbers.geometry:
        return list(like.node.attributes.values())
    if numbers.transposed or numbers.borders != ZEROS:
        raise PassRefusedError("no operator has such borders")
    pads = [side for sides in zip(*numbers.padding, strict=True) for side in sides]
    return [
        ir.AttrInt64s("kernel_shape", numbers.kernel),
        ir.AttrInt64s("strides", numbers.stride),
        ir.AttrInt64s("pads", pads),
        ir.AttrInt64s("dilations", numbers.dilation),
        ir.AttrInt64("group", numbers.groups),
    ]


def _round(numbers: Linear, dtype: npt.DTypeLike) -> tuple[npt.NDArray, npt.NDArray]:
    """Return weight and bias in the type that the operator has its weights in."""
    with np.errstate(over="ignore", invalid="ignore"):
        weight, bias = numbers.weight.astype(dtype), numbers.bias.astype(dtype)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise PassRefusedError("the folded weights are not finite")
    return weight, bias


def _spread(bias: Doubles, channels: int) -> Doubles:
    """Return `bias` as (channels,); raise PassRefusedError where it differs from row to row."""
    if bias.size not in (1, channels) or (bias.size > 1 and bias.shape[-1] != channels):
        raise PassRefusedError(f"a bias of shape {bias.shape} is not one number for each channel")
    return np.broadcast_to(bias.reshape(-1), (channels,))

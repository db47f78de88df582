"""Fold what is linear into the convolutions and matrix products of a graph.

BatchNormalization, and a constant for each channel that is multiplied, divided by, added or
subtracted, go into the operator before or the ones after; what several operators make of one value
and is summed becomes one operator; so do two right after one another where that saves
multiplications. The algebra is that of folding in torch (`exporters.folding.algebra`), in float64.
It holds only if nothing else reads what is between, and if every number is a constant. PyTorch's
TorchScript exporter leaves BatchNorm after linear layers; onnxruntime then keeps it, too. Fewer
operators with fewer numbers cannot cost anything on any target; measured on a CPU alone.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx import ModelProto

from foldbench.bench.records import PassReport
from foldbench.exporters.folding.algebra import (
    Doubles,
    FoldRefusedError,
    Linear,
    add,
    compose,
    pointwise,
    scale_inputs,
    scale_outputs,
)
from foldbench.exporters.passes._graphs.layers import LAYERS, Layer, Layers
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    array_of,
    is_op,
    is_used_outside,
    opset_of,
    remove_unused,
    rewrite,
)

ERROR_BOUND = 2e-6
TARGETS = ("cpu", "openvino", "cuda", "tensorrt", "host")
HOST_SPECIFIC = False

_LEAST_OPSET = 9
"""From which on BatchNormalization is per channel, and its attributes mean what they do now."""
_NAMES = {
    "BatchNormalization": "BatchNormalization",
    "scale": "scales and shifts",
    "branch": "summed branches",
    "chain": "operators before another",
}


@dataclass(frozen=True, eq=False)
class _Scaling:
    """y = x * scale + shift, in the shapes that the graph has them in."""

    source: ir.Value
    scale: Doubles
    shift: Doubles
    is_batchnorm: bool = False

    def by_channel(self, dimensions: int, channels: int) -> tuple[Doubles, Doubles]:
        """Return both as (channels,), for features before `dimensions` more dimensions."""
        return (
            self._vector(self.scale, dimensions, channels),
            self._vector(self.shift, dimensions, channels),
        )

    def _vector(self, values: Doubles, dimensions: int, channels: int) -> Doubles:
        shape = self.source.shape
        if self.is_batchnorm:
            if dimensions == 0 and (shape is None or len(shape) != 2):
                raise PassRefusedError("the MatMul before it is not known to give a matrix")
            return values
        before = values.ndim - dimensions - 1
        fits = values.size == 1 or (before >= 0 and values.shape[before] == values.size == channels)
        if not fits or shape is None or values.ndim > len(shape):
            raise PassRefusedError(f"{values.shape} is not one number for each channel")
        return np.broadcast_to(values.reshape(-1), (channels,))


@dataclass(frozen=True, eq=False)
class _Term:
    """What a sum adds: `sign` times what `numbers` (None: nothing) make of `source`."""

    value: ir.Value
    sign: float
    source: ir.Value
    scalings: tuple[tuple[ir.Node, _Scaling], ...] = ()
    layer: Layer | None = None

    def numbers(self, like: Layer) -> Linear:
        """Return it as a layer of the form of `like`."""
        width = self.layer.numbers if self.layer else None
        channels = len(width.bias) if width else like.numbers.inputs
        made = width or pointwise(np.ones(channels), np.zeros(channels), like.dimensions)
        for _, scaling in reversed(self.scalings):
            made = scale_outputs(made, *scaling.by_channel(like.dimensions, channels))
        return scale_outputs(made, np.full(channels, self.sign), np.zeros(channels))


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with what is linear folded where that is right."""
    folding = _Folding()
    return rewrite(
        model, "fold_batchnorm", "BatchNormalization", folding.tell, folding.edit, repeat=True
    )


class _Folding:
    """The rules, node by node, and what they did."""

    def __init__(self) -> None:
        self._layers = Layers()
        self._done: Counter[str] = Counter()

    def tell(self) -> str:
        """Return what was folded, by kind."""
        parts = (f"{count} {_NAMES[kind]}" for kind, count in self._done.items())
        return f"folded into other operators ({', '.join(parts)})"

    def edit(self, model: ir.Model, node: ir.Node) -> bool:
        """Fold what `node` is or ends, and tell whether that was possible."""
        is_batchnorm = is_op(node, "BatchNormalization")
        if opset_of(model) < _LEAST_OPSET:
            if is_batchnorm:
                told = f"opset {opset_of(model)}, {_LEAST_OPSET} or newer is needed"
                raise PassRefusedError(told)
            return False
        for rule in (self._fold_scaling, self._fold_sum, self._fold_chain):
            try:
                if rule(model.graph, node):
                    return True
            except (PassRefusedError, FoldRefusedError) as refusal:
                if is_batchnorm:
                    raise PassRefusedError(str(refusal)) from refusal
        return False

    def _fold_scaling(self, graph: ir.Graph, node: ir.Node) -> bool:
        scaling = _read_scaling(node)
        if scaling is None or self._layers.read(node) is not None:
            return False
        try:
            self._into_layer_before(graph, node, scaling)
        except (PassRefusedError, FoldRefusedError):
            if not self._into_layers_after(graph, node, scaling):
                raise
        self._done["BatchNormalization" if scaling.is_batchnorm else "scale"] += 1
        return True

    def _into_layer_before(self, graph: ir.Graph, node: ir.Node, scaling: _Scaling) -> None:
        before = scaling.source.producer()
        if is_used_outside(scaling.source, (node,)):
            raise PassRefusedError("its input is used elsewhere too")
        layer = self._layers.read(before)
        if layer is None:
            follows = before.op_type if before else "an input of the graph"
            raise PassRefusedError(f"it follows {follows}")
        parts = scaling.by_channel(layer.dimensions, len(layer.numbers.bias))
        numbers = scale_outputs(layer.numbers, *parts)
        old = (node, *layer.nodes)
        self._layers.write(graph, layer, numbers, layer.source, node.outputs[0], old, node)

    def _into_layers_after(self, graph: ir.Graph, node: ir.Node, scaling: _Scaling) -> bool:
        """Scale the inputs of all that reads `node`; tell whether they are all layers."""
        output = node.outputs[0]
        readers = [use.node for use in output.uses()]
        if output.is_graph_output() or not readers:
            return False
        if not all(is_op(r, *LAYERS) and r.inputs[0] is output for r in readers):
            return False
        made = []
        for reader in readers:
            layer = self._layers.read(reader)
            if layer is None:
                return False
            parts = scaling.by_channel(layer.dimensions, layer.numbers.inputs)
            made.append((layer, scale_inputs(layer.numbers, *parts)))
        for layer, numbers in made:
            self._layers.write(
                graph,
                layer,
                numbers,
                scaling.source,
                layer.output,
                layer.nodes,
                layer.nodes[0],
            )
        return True

    def _fold_sum(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Make one operator of two summands of one value; the others stay a sum."""
        if not _is_sum(node) or self._layers.read(node) is not None or _is_within_sum(node):
            return False
        terms = [self._read_term(value, sign) for value, sign in _summands(node)]
        by_weight = sorted(terms, key=lambda t: -(t.layer.numbers.macs if t.layer else 0))
        for base in by_weight:
            for other in terms:
                if base.layer is None or other is base or other.source is not base.source:
                    continue
                if numbers := _join(base, other, base.layer):
                    rest = [t for t in terms if t is not base and t is not other]
                    inputs = list(node.inputs)
                    self._write_sum(graph, node, base, numbers, rest)
                    for value in inputs:
                        remove_unused(value)
                    self._done["branch"] += 1
                    done = [s for t in (base, other) for _, s in t.scalings]
                    self._done["BatchNormalization"] += sum(s.is_batchnorm for s in done)
                    self._done += Counter()  # without what is zero
                    return True
        return False

    def _read_term(self, value: ir.Value, sign: float) -> _Term:
        """Return a summand, followed back through scales and shifts to a layer."""
        source, scalings, layer = value, [], None
        while layer is None and len(source.uses()) == 1 and not source.is_graph_output():
            node = source.producer()
            try:
                layer = self._layers.read(node)
                scaling = _read_scaling(node) if node is not None and layer is None else None
            except (PassRefusedError, FoldRefusedError):
                break
            if layer is not None:
                source = layer.source
            elif scaling is not None and node is not None:
                scalings.append((node, scaling))
                source = scaling.source
            else:
                break
        return _Term(value, sign, source, tuple(scalings), layer)

    def _write_sum(
        self, graph: ir.Graph, node: ir.Node, base: _Term, numbers: Linear, rest: list[_Term]
    ) -> None:
        like = base.layer
        assert like is not None
        output = node.outputs[0]
        if not rest:
            self._layers.write(graph, like, numbers, base.source, output, (node,), node)
            return
        (total, *others) = sorted(rest, key=lambda term: term.sign < 0)
        merged = ir.Value(name=f"{output.name}_merged", type=output.type, shape=output.shape)
        stand_in = ir.Node("", "Identity", [base.source], outputs=[merged])
        nodes, last = [stand_in], merged
        for term in (total, *others):
            kind = "Add" if term.sign > 0 else "Sub"
            made = ir.Node("", kind, [last, term.value])
            made.outputs[0].type, made.outputs[0].shape = output.type, output.shape
            nodes.append(made)
            last = made.outputs[0]
        home = node.graph
        if home is None:
            raise PassRefusedError("it is in another graph")
        ir.convenience.replace_nodes_and_values(home, node, [node], nodes, [output], [last])
        self._layers.write(graph, like, numbers, base.source, merged, (stand_in,), stand_in)

    def _fold_chain(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Join two layers right after one another where that saves multiplications."""
        layer = self._layers.read(node)
        if layer is None:
            return False
        first = self._layers.read(layer.source.producer())
        if first is None or is_used_outside(first.output, (layer.node,)):
            return False
        if first.dimensions != layer.dimensions:
            return False
        joined = compose(first.numbers, layer.numbers)
        if joined.macs >= first.numbers.macs + layer.numbers.macs:
            return False
        old = (*layer.nodes, *first.nodes)
        self._layers.write(graph, layer, joined, first.source, layer.output, old, layer.nodes[0])
        self._done["chain"] += 1
        return True


def _join(base: _Term, other: _Term, like: Layer) -> Linear | None:
    """Return the sum of two terms as one layer; None where it is none, or a dearer one."""
    try:
        numbers = [term.numbers(like) for term in (base, other)]
        if len(numbers[0].bias) != len(numbers[1].bias):
            return None
        if len(numbers[0].kernel) != len(numbers[1].kernel):
            return None
        joined = add(*numbers)
    except (PassRefusedError, FoldRefusedError):
        return None
    allowed = sum(term.layer.numbers.macs for term in (base, other) if term.layer)
    return joined if joined.macs <= allowed else None


def _is_sum(node: ir.Node) -> bool:
    return is_op(node, "Add", "Sub") and all(array_of(value) is None for value in node.inputs)


def _is_within_sum(node: ir.Node) -> bool:
    output = node.outputs[0]
    uses = output.uses()
    return len(uses) == 1 and not output.is_graph_output() and _is_sum(uses[0].node)


def _summands(node: ir.Node) -> list[tuple[ir.Value, float]]:
    """Return what a sum adds up with signs, seen through sums within that nobody else reads."""
    found = []
    signs = (1.0, 1.0 if node.op_type == "Add" else -1.0)
    for value, sign in zip(node.inputs, signs, strict=True):
        assert value is not None
        inner = value.producer()
        if inner is not None and _is_sum(inner) and _is_within_sum(inner):
            found += [(leaf, sign * own) for leaf, own in _summands(inner)]
        else:
            found.append((value, sign))
    return found


def _read_scaling(node: ir.Node) -> _Scaling | None:
    """Return what `node` multiplies by and adds; None where it does no such thing.

    Raises PassRefusedError for a BatchNormalization whose numbers are not fixed.
    """
    if is_op(node, "BatchNormalization"):
        return _read_batchnorm(node)
    if not is_op(node, "Add", "Sub", "Mul", "Div"):
        return None
    for index in (0, 1):
        source, array = node.inputs[index], array_of(node.inputs[1 - index])
        if source is not None and array is not None and array.dtype.kind == "f":
            values = np.asarray(array, np.float64)
            parts = _calculate(node.op_type, values, reverse=bool(index))
            return _Scaling(source, *parts) if parts else None
    return None


def _calculate(op_type: str, values: Doubles, reverse: bool) -> tuple[Doubles, Doubles] | None:
    ones, zeros = np.ones_like(values), np.zeros_like(values)
    if op_type == "Add":
        return ones, values
    if op_type == "Sub":
        return (-ones, values) if reverse else (ones, -values)
    if op_type == "Mul":
        return values, zeros
    return None if reverse or not values.all() else (1 / values, zeros)


def _read_batchnorm(node: ir.Node) -> _Scaling:
    """Return y = (x - mean) / sqrt(variance + epsilon) * scale + shift."""
    if node.attributes.get_int("training_mode", 0) or _extra_outputs(node):
        raise PassRefusedError("it is in training mode")
    arrays = [array_of(value) for value in node.inputs[1:5]]
    if len(arrays) != 4 or any(array is None or array.dtype.kind != "f" for array in arrays):
        raise PassRefusedError("its parameters are not all constant")
    scale, shift, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    if node.inputs[0] is None:
        raise PassRefusedError("it lacks an input")
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return _Scaling(node.inputs[0], factor, shift - mean * factor, is_batchnorm=True)


def _extra_outputs(node: ir.Node) -> bool:
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])

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

import numpy as np
import onnx_ir as ir
from onnx import ModelProto

from foldbench.bench.records import PassReport, Target
from foldbench.exporters.folding.algebra import (
    FoldRefusedError,
    Linear,
    compose,
    scale_inputs,
    scale_outputs,
)
from foldbench.exporters.passes._graphs.layers import LAYERS, Layers
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    add_constant,
    array_of,
    is_op,
    is_used_outside,
    opset_of,
    remove_unused,
    rewrite,
)
from foldbench.exporters.passes._graphs.scalings import Scaling, read_layer_norm, read_scaling
from foldbench.exporters.passes._graphs.terms import (
    Term,
    is_sum,
    is_within_sum,
    join,
    read_term,
    summands,
)

ERROR_BOUND = 2e-6
TARGETS = ("cpu", "openvino", "cuda", "tensorrt", "host")
ONLY_FOR: Target | None = None

_LEAST_OPSET = 9
"""From which on BatchNormalization is per channel, and its attributes mean what they do now."""
_NAMES = {
    "BatchNormalization": "BatchNormalization",
    "scale": "scales and shifts",
    "branch": "summed branches",
    "chain": "operators before another",
}


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
        rules = (self._fold_scaling, self._fold_layer_norm, self._fold_sum, self._fold_chain)
        for rule in rules:
            try:
                if rule(model.graph, node):
                    return True
            except (PassRefusedError, FoldRefusedError) as refusal:
                if is_batchnorm:
                    raise PassRefusedError(str(refusal)) from refusal
        return False

    def _fold_scaling(self, graph: ir.Graph, node: ir.Node) -> bool:
        scaling = read_scaling(node)
        if scaling is None or self._layers.read(node) is not None:
            return False
        try:
            self._into_layer_before(graph, node, scaling)
        except (PassRefusedError, FoldRefusedError):
            if not self._into_layers_after(graph, node.outputs[0], scaling):
                raise
        self._done["BatchNormalization" if scaling.is_batchnorm else "scale"] += 1
        return True

    def _into_layer_before(self, graph: ir.Graph, node: ir.Node, scaling: Scaling) -> None:
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

    def _into_layers_after(self, graph: ir.Graph, output: ir.Value, scaling: Scaling) -> bool:
        """Scale the inputs of all that reads `output`; tell whether they are all layers."""
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
            if not scaling.keeps_channels(layer):
                return False
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
        remove_unused(output)
        return True

    def _fold_layer_norm(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Let layers that alone read it do what a LayerNormalization multiplies by and adds.

        A matrix product without a bias would need one for what it adds: then both stay.
        """
        scaling = read_layer_norm(node)
        if scaling is None:
            return False
        output = node.outputs[0]
        if scaling.shift.any() and not all(_has_bias(use.node) for use in output.uses()):
            return False
        if not self._into_layers_after(graph, output, scaling):
            return False
        given = array_of(node.inputs[1])
        assert given is not None  # it was read
        ones = add_constant(graph, f"{output.name}_ones", np.ones_like(given))
        node.replace_input_with(1, ones)
        node.resize_inputs(2)
        self._done["scale"] += 1
        return True

    def _fold_sum(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Make one operator of two summands of one value; the others stay a sum."""
        if not is_sum(node) or self._layers.read(node) is not None or is_within_sum(node):
            return False
        terms = [read_term(self._layers, value, sign) for value, sign in summands(node)]
        by_weight = sorted(terms, key=lambda t: -(t.layer.numbers.macs if t.layer else 0))
        for base in by_weight:
            for other in terms:
                if base.layer is None or other is base or other.source is not base.source:
                    continue
                if numbers := join(base, other, base.layer):
                    rest = [t for t in terms if t is not base and t is not other]
                    inputs = list(node.inputs)
                    self._write_sum(graph, node, base, numbers, rest)
                    for value in inputs:
                        remove_unused(value)
                    self._done["branch"] += 1
                    self._done["BatchNormalization"] += base.batchnorms + other.batchnorms
                    self._done += Counter()  # without what is zero
                    return True
        return False

    def _write_sum(
        self, graph: ir.Graph, node: ir.Node, base: Term, numbers: Linear, rest: list[Term]
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


def _has_bias(layer: ir.Node) -> bool:
    """Return whether `layer` adds constants to its products, itself or by an Add after it."""
    if len(layer.inputs) > 2:
        return True
    uses = layer.outputs[0].uses()
    return len(uses) == 1 and is_op(uses[0].node, "Add") and Layers().read(uses[0].node) is not None

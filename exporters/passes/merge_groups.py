"""Merge narrow groups of convolutions until they fill blocks of channels; for this machine.

onnxruntime's fast convolutions on a CPU work on channels in blocks as wide as a vector register
(NCHWc). A convolution whose groups are no whole blocks (RegNet, ResNeXt) is computed group by group
in the usual layout, with reorderings around it. Several groups become one that fills blocks, with
zero weights between them: more multiplications in less time. Where groups are left over, channels
of zeros come after the last one; what makes and reads them gets as many, up to the next
convolutions.

The file runs anywhere, but how wide a block is differs by processor. Groups that would come out
wider than `MOST_CHANNELS` were not measured to gain.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import gcd, lcm

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx import ModelProto

from foldbench.bench.records import PassReport, Target
from foldbench.exporters.folding.algebra import Linear, regroup
from foldbench.exporters.passes._graphs.layers import Layers
from foldbench.exporters.passes._graphs.optimised import channels_in_a_block, rewrite_unoptimised
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    add_constant,
    array_of,
    is_op,
)

ERROR_BOUND = 2e-6
TARGETS = ("host",)
ONLY_FOR: Target | None = None

MOST_CHANNELS = 48
"""Of a group after merging."""
_MOST_TOGETHER = 8
"""Groups that become one."""
_MOST_PADDED = 1.25
"""Times as many groups where some are left over."""
_RANK = 4
"""Of the weights of a convolution over images."""
_ELEMENTWISE = (
    *("Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish"),
    *("Mul", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh"),
)
"""Finite wherever what they read is."""
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
_OVER_PIXELS = ({2, 3}, {-1, -2})


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with narrow groups merged; the copy is exact where there are none.

    Raises what onnxruntime raises on a probe that it cannot load.
    """
    merging = _Merging()
    return rewrite_unoptimised(model, "merge_groups", "narrow groups", merging.tell, merging.edit)


class _Merging:
    """Merges the groups of one convolution after the other, and tells what it did."""

    def __init__(self) -> None:
        self._layers = Layers()
        self._padded = 0

    def tell(self) -> str:
        """Return what was done, after how often."""
        padded = f", {self._padded} of them with channels of zeros" if self._padded else ""
        return (
            f"convolutions of merged groups, to blocks of {channels_in_a_block()} channels{padded}"
        )

    def edit(self, model: ir.Model, node: ir.Node) -> bool:
        """Merge the groups of `node` where that gains, and tell whether it did."""
        if not is_op(node, "Conv") or node.attributes.get_int("group", 1) == 1:
            return False
        weight = array_of(node.inputs[1])
        if weight is None or weight.ndim != _RANK or weight.dtype != np.float32:
            return False
        layer = self._layers.read(node)
        assert layer is not None  # a convolution
        numbers = layer.numbers
        together = _count_merged(numbers)
        if together == 1:
            return False
        missing = -numbers.groups % together
        if missing:
            region = _find_region(node, numbers, missing, self._layers)
            region.pad(model.graph)
            numbers = _add_groups(numbers, missing)
            self._padded += 1
        numbers = regroup(numbers, numbers.groups // together)
        _set_weights(model.graph, node, numbers.weight, numbers.bias)
        node.attributes["group"] = ir.AttrInt64("group", numbers.groups)
        return True


def _count_merged(numbers: Linear) -> int:
    """Return how many groups become one; 1 where they stay.

    Raises PassRefusedError where onnxruntime has no blocks.
    """
    inputs, outputs = numbers.weight.shape[1], len(numbers.weight) // numbers.groups
    if inputs == 1:  # by channel: onnxruntime has a kernel of its own
        return 1
    block = channels_in_a_block()
    if block is None:
        raise PassRefusedError("onnxruntime's convolutions have no blocks on this processor")
    together = lcm(block // gcd(block, inputs), block // gcd(block, outputs))
    padded = numbers.groups + -numbers.groups % together
    gains = together * max(inputs, outputs) <= MOST_CHANNELS and together <= _MOST_TOGETHER
    return together if gains and padded <= _MOST_PADDED * numbers.groups else 1


def _add_groups(numbers: Linear, count: int) -> Linear:
    """Return `numbers` with `count` groups of zeros after the last one."""
    outputs = len(numbers.weight) // numbers.groups * count
    weight = np.pad(numbers.weight, ((0, outputs), *[(0, 0)] * (numbers.weight.ndim - 1)))
    bias = np.pad(numbers.bias, (0, outputs))
    return replace(numbers, weight=weight, bias=bias, groups=numbers.groups + count)


@dataclass
class _Region:
    """Values that get channels of zeros, and the convolutions where they begin and end."""

    layers: Layers
    more: dict[ir.Value, int] = field(default_factory=dict)
    """How many channels each value gets after its last one."""
    makers: list[ir.Node] = field(default_factory=list)
    readers: list[ir.Node] = field(default_factory=list)

    def pad(self, graph: ir.Graph) -> None:
        """Give all values their channels, zeros where a convolution makes them."""
        for node in dict.fromkeys((*self.makers, *self.readers)):
            layer = self.layers.read(node)
            assert layer is not None  # it was read before
            rows = self.more[node.outputs[0]] if node in self.makers else 0
            columns = self.more[layer.source] if node in self.readers else 0
            weight = np.pad(layer.numbers.weight, ((0, rows), (0, columns), (0, 0), (0, 0)))
            _set_weights(graph, node, weight, np.pad(layer.numbers.bias, (0, rows)))
        for value, more in self.more.items():
            assert value.shape is not None  # its channels were counted
            batch, _, *pixels = value.shape
            value.shape = ir.Shape([batch, _channels_of(value) + more, *pixels])


def _find_region(conv: ir.Node, numbers: Linear, missing: int, layers: Layers) -> _Region:
    """Return what has to change for `missing` groups more; raise PassRefusedError if it cannot."""
    source, output = conv.inputs[0], conv.outputs[0]
    assert source is not None  # a convolution's
    outputs = len(numbers.weight) // numbers.groups
    region = _Region(layers)
    waiting = [(source, missing * numbers.weight.shape[1]), (output, missing * outputs)]
    while waiting:
        value, more = waiting.pop()
        channels = _channels_of(value)
        if value in region.more:
            if region.more[value] != more:
                raise PassRefusedError("other channels of zeros would meet")
            continue
        if value.is_graph_output() or value.producer() is None:
            raise PassRefusedError("groups are left over, up to an end of the graph")
        region.more[value] = more
        for node, place in _neighbours(value, conv):
            if node.graph is conv.graph and _is_dense(node, layers) and place in (None, 0):
                (region.makers if place is None else region.readers).append(node)
            elif node.graph is conv.graph and _keeps_channels(node):
                read = [given for given in node.inputs if given and array_of(given) is None]
                if {channels} != {_channels_of(other) for other in (*read, *node.outputs)}:
                    raise PassRefusedError("groups are left over, and channels are broadcast")
                waiting += [(other, more) for other in (*read, *node.outputs)]
            else:
                raise PassRefusedError(f"groups are left over, next to {node.op_type}")
    return region


def _channels_of(value: ir.Value) -> int:
    """Return how many channels (N, C, H, W) has; raise PassRefusedError where that is not known."""
    shape = value.shape
    if shape is None or len(shape) != _RANK or not isinstance(channels := shape[1], int):
        raise PassRefusedError("groups are left over, and how many channels there are is not known")
    return channels


def _neighbours(value: ir.Value, without: ir.Node) -> Iterator[tuple[ir.Node, int | None]]:
    """Yield the node that makes `value` (with None), and those that read it, with their input."""
    maker = value.producer()
    found = [(maker, None), *((use.node, use.idx) for use in value.uses())]
    for node, place in found:
        if node is not None and node is not without:
            yield node, place


def _is_dense(node: ir.Node, layers: Layers) -> bool:
    """Return whether `node` is a convolution over images without groups, of constant weights."""
    if not is_op(node, "Conv"):
        return False
    layer = layers.read(node)
    assert layer is not None  # a convolution
    return layer.numbers.groups == 1 and layer.numbers.weight.ndim == _RANK


def _keeps_channels(node: ir.Node) -> bool:
    """Return whether each channel of what `node` gives follows from those of its inputs alone."""
    if is_op(node, "ReduceMean"):
        axes = _axes_of(node)
        return node.attributes.get_int("keepdims", 1) == 1 and axes in _OVER_PIXELS
    if not is_op(node, *_ELEMENTWISE, *_POOLS) or len(node.outputs) != 1:
        return False
    constants = (array_of(value) for value in node.inputs)
    return all(constant is None or constant.size == 1 for constant in constants)


def _axes_of(node: ir.Node) -> set[int]:
    """Return what a ReduceMean goes over; the empty set where that is not known."""
    if len(node.inputs) > 1:
        array = array_of(node.inputs[1])
        return set() if array is None else {int(axis) for axis in array.reshape(-1)}
    return set(node.attributes.get_ints("axes", ()))


def _set_weights(graph: ir.Graph, node: ir.Node, weight: npt.NDArray, bias: npt.NDArray) -> None:
    """Give a convolution other numbers, in float32; what others read stays."""
    name = node.outputs[0].name
    arrays = [("weight", weight), ("bias", bias)] if bias.any() else [("weight", weight)]
    node.resize_inputs(1 + len(arrays))
    for place, (what, array) in enumerate(arrays, start=1):
        node.replace_input_with(
            place, add_constant(graph, f"{name}_{what}", np.asarray(array, np.float32))
        )

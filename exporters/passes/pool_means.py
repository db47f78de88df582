"""Write means over the pixels as GlobalAveragePool, which onnxruntime computes on blocks.

onnxruntime's convolutions on a CPU work on channels in blocks. GlobalAveragePool works on them,
too; ReduceMean does not, so that all that it reads is reordered first. Squeeze-and-excitation
(arXiv 1709.01507) has a mean of this kind in every block. A mean that drops both axes becomes a
pool and a Flatten. Means of what no convolution gives are left: there is nothing to reorder.

GlobalAveragePool adds pixel after pixel in float32, so that its rounding error grows with their
number. More than `MOST_PIXELS` are averaged in two steps, over windows and over what those give;
where the sides have no fitting divisors, the mean stays.
"""

from math import prod, sqrt

import onnx_ir as ir
from onnx import ModelProto

from foldbench.bench.records import PassReport, Target
from foldbench.exporters.passes._graphs.elementwise import is_elementwise
from foldbench.exporters.passes._graphs.rewrite import PassRefusedError, array_of, is_op, rewrite

ERROR_BOUND = 1e-6
TARGETS = ("host",)
ONLY_FOR: Target | None = None

MOST_PIXELS = 256
_PIXELS = {2, 3}
_RANK = 4
_THROUGH = ("MaxPool", "AveragePool", "BatchNormalization")
"""Operators besides element-wise ones that onnxruntime computes on blocks."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with means in float32 over the height and width of what convolutions give."""
    return rewrite(
        model, "pool_means", "means over pixels", "means written as GlobalAveragePool", _edit
    )


def _edit(model: ir.Model, node: ir.Node) -> bool:
    if not is_op(node, "ReduceMean") or _axes(node) != _PIXELS:
        return False
    x, mean = node.inputs[0], node.outputs[0]
    if x is None or x.dtype != ir.DataType.FLOAT or not _is_of_a_convolution(x):
        return False
    window = _window(x)
    tape = ir.tape.Tape()
    pooled = x
    if max(window) > 1:
        sizes = {"kernel_shape": window, "strides": window}
        pooled = tape.op("AveragePool", [pooled], sizes)
    pooled = tape.op("GlobalAveragePool", [pooled])
    if not node.attributes.get_int("keepdims", 1):
        pooled = tape.op("Flatten", [pooled], {"axis": 1})
    for made in tape.nodes:
        made.outputs[0].type = mean.type
    pooled.shape = mean.shape
    graph = node.graph
    assert graph is not None  # it was found in one
    ir.convenience.replace_nodes_and_values(graph, node, [node], tape.nodes, [mean], [pooled])
    return True


def _window(x: ir.Value) -> tuple[int, int]:
    """Return the height and width of windows that are averaged first; 1 by 1 for none.

    Raises PassRefusedError where so many pixels cannot be had in windows.
    """
    sides = [side for side in (x.shape or ())[2:] if isinstance(side, int)]
    if len(sides) < len(_PIXELS):
        raise PassRefusedError("the number of pixels is not fixed")
    if prod(sides) <= MOST_PIXELS:
        return 1, 1
    height, width = (_middle_divisor(side) for side in sides)
    if max(height * width, prod(sides) // (height * width)) > MOST_PIXELS:
        raise PassRefusedError(f"{sides[0]}x{sides[1]} pixels have no windows that fit")
    return height, width


def _middle_divisor(side: int) -> int:
    divisors = [number for number in range(1, side + 1) if side % number == 0]
    return min(divisors, key=lambda number: abs(number - sqrt(side)))


def _axes(node: ir.Node) -> set[int]:
    """Return the axes of a tensor (N, C, H, W) that ReduceMean `node` goes over; empty: others."""
    x = node.inputs[0]
    if x is None or x.shape is None or x.shape.rank() != _RANK:
        return set()
    given = array_of(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = node.attributes.get_ints("axes", ()) if given is None else given.tolist()
    return {axis % _RANK for axis in axes}


def _is_of_a_convolution(value: ir.Value) -> bool:
    """Return whether `value` is computed from a convolution, channel by channel."""
    seen: set[ir.Value] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        node = one.producer()
        if node is None or one in seen:
            continue
        seen.add(one)
        if is_op(node, "Conv"):
            return True
        if is_elementwise(node) or is_op(node, *_THROUGH):
            waiting += [read for read in node.inputs if read is not None]
    return False

"""Summands of one value that are linear in it: what they are, and two of them as one layer."""

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from foldbench.exporters.folding.algebra import (
    FoldRefusedError,
    Linear,
    add,
    compose,
    pointwise,
    scale_outputs,
)
from foldbench.exporters.passes._graphs.layers import Layer, Layers
from foldbench.exporters.passes._graphs.rewrite import PassRefusedError, array_of, is_op
from foldbench.exporters.passes._graphs.scalings import Scaling, read_scaling


@dataclass(frozen=True, eq=False)
class Term:
    """What a sum adds: `sign` times what `layer`, if any, and then `steps` make of `source`."""

    value: ir.Value
    sign: float
    source: ir.Value
    steps: tuple[Scaling | Linear, ...] = ()
    """From the sum back to the layer."""
    layer: Layer | None = None

    @property
    def batchnorms(self) -> int:
        """How many of the steps are BatchNormalization."""
        return sum(isinstance(step, Scaling) and step.is_batchnorm for step in self.steps)

    def numbers(self, like: Layer) -> Linear:
        """Return it as a layer of the form of `like`; raises FoldRefusedError where it is none."""
        channels = like.numbers.inputs
        made = self.layer.numbers if self.layer else None
        for step in reversed(self.steps):
            if isinstance(step, Scaling):
                width = len(made.bias) if made else channels
                step = pointwise(*step.by_channel(like.dimensions, width), like.dimensions)
            if len((made or step).kernel) != len(step.kernel):
                raise FoldRefusedError("they work along different dimensions")
            made = step if made is None else compose(made, step)
        made = made or pointwise(np.ones(channels), np.zeros(channels), like.dimensions)
        return scale_outputs(made, np.full(len(made.bias), self.sign), np.zeros(len(made.bias)))


def read_term(layers: Layers, value: ir.Value, sign: float) -> Term:
    """Return a summand, followed back through scales, shifts and averages to a layer."""
    source, steps, layer = value, list[Scaling | Linear](), None
    while layer is None and len(source.uses()) == 1 and not source.is_graph_output():
        node = source.producer()
        try:
            layer = layers.read(node)
            step = None if layer or node is None else read_scaling(node) or _read_average(node)
        except (PassRefusedError, FoldRefusedError):
            break
        if layer is not None:
            source = layer.source
        elif step is not None and node is not None and node.inputs[0] is not None:
            steps.append(step)
            source = step.source if isinstance(step, Scaling) else node.inputs[0]
        else:
            break
    return Term(value, sign, source, tuple(steps), layer)


def _read_average(node: ir.Node) -> Linear | None:
    """Return an AveragePool as a convolution, channel by channel."""
    shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
    channels = shape[1] if shape is not None and len(shape) > 2 else None
    if not is_op(node, "AveragePool") or not isinstance(channels, int):
        return None
    given = node.attributes
    kernel = tuple(given.get_ints("kernel_shape", []))
    sides = len(kernel)
    pads = given.get_ints("pads", [0] * 2 * sides)
    counts = bool(given.get_int("count_include_pad", 0)) or not any(pads)
    auto = given.get_string("auto_pad", "NOTSET")
    if not counts or given.get_int("ceil_mode", 0) or auto not in ("NOTSET", "VALID"):
        return None
    return Linear(
        np.full((channels, 1, *kernel), 1 / prod(kernel)),
        np.zeros(channels),
        tuple(given.get_ints("strides", [1] * sides)),
        tuple(zip(pads[:sides], pads[sides:], strict=True)),
        tuple(given.get_ints("dilations", [1] * sides)),
        channels,
    )


def join(base: Term, other: Term, like: Layer) -> Linear | None:
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


def is_sum(node: ir.Node) -> bool:
    return is_op(node, "Add", "Sub") and all(array_of(value) is None for value in node.inputs)


def is_within_sum(node: ir.Node) -> bool:
    output = node.outputs[0]
    uses = output.uses()
    return len(uses) == 1 and not output.is_graph_output() and is_sum(uses[0].node)


def summands(node: ir.Node) -> list[tuple[ir.Value, float]]:
    """Return what a sum adds up with signs, seen through sums within that nobody else reads."""
    found = []
    signs = (1.0, 1.0 if node.op_type == "Add" else -1.0)
    for value, sign in zip(node.inputs, signs, strict=True):
        assert value is not None
        inner = value.producer()
        if inner is not None and is_sum(inner) and is_within_sum(inner):
            found += [(leaf, sign * own) for leaf, own in summands(inner)]
        else:
            found.append((value, sign))
    return found

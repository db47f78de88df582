"""Operators that multiply by and add constants by channel, BatchNormalization above all."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from foldbench.exporters.folding.algebra import Doubles
from foldbench.exporters.passes._graphs.layers import Layer
from foldbench.exporters.passes._graphs.rewrite import PassRefusedError, array_of, is_op


@dataclass(frozen=True, eq=False)
class Scaling:
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

    def keeps_channels(self, layer: Layer) -> bool:
        """Return whether its input is known to have the channels that `layer` reads."""
        shape = self.source.shape
        if self.is_batchnorm or self.scale.size == 1:
            return True
        place = -layer.dimensions - 1
        return shape is not None and shape[place] == layer.numbers.inputs

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


def read_scaling(node: ir.Node) -> Scaling | None:
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
            return Scaling(source, *parts) if parts else None
    return None


def read_layer_norm(node: ir.Node) -> Scaling | None:
    """Return what a LayerNormalization does at its end, of its own output; None for nothing."""
    if not is_op(node, "LayerNormalization") or _extra_outputs(node):
        return None
    output, arrays = node.outputs[0], [array_of(value) for value in node.inputs[1:]]
    if not arrays or any(array is None or array.ndim != 1 for array in arrays):
        return None
    scale, *shifts = (np.asarray(array, np.float64) for array in arrays)
    if not shifts and (scale == 1).all():
        return None
    return Scaling(output, scale, shifts[0] if shifts else np.zeros_like(scale))


def _calculate(op_type: str, values: Doubles, reverse: bool) -> tuple[Doubles, Doubles] | None:
    ones, zeros = np.ones_like(values), np.zeros_like(values)
    if op_type == "Add":
        return ones, values
    if op_type == "Sub":
        return (-ones, values) if reverse else (ones, -values)
    if op_type == "Mul":
        return values, zeros
    return None if reverse or not values.all() else (1 / values, zeros)


def _read_batchnorm(node: ir.Node) -> Scaling:
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
    return Scaling(node.inputs[0], factor, shift - mean * factor, is_batchnorm=True)


def _extra_outputs(node: ir.Node) -> bool:
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])

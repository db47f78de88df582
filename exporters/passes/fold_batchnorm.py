"""Fold each BatchNormalization that an exporter left behind into the operator before it.

    y = (Wx + c - mean) * s + shift,  s = scale / sqrt(variance + epsilon)
      = (W s) x + (c - mean) s + shift

in float64, for Conv, ConvTranspose, Gemm, and MatMul with or without an Add. It holds only if
nothing else reads what is between the two, and if every number in it is a constant. PyTorch's
TorchScript exporter leaves BatchNorm after linear layers; onnxruntime then keeps it, too. Fewer
operators with fewer numbers cannot cost anything on any target; measured on a CPU alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx import ModelProto

from foldbench.bench.records import PassReport
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    add_constant,
    array_of,
    is_op,
    is_used_outside,
    made_by,
    opset_of,
    rewrite,
)

ERROR_BOUND = 2e-6
TARGETS = ("cpu", "openvino", "cuda", "tensorrt", "host")
HOST_SPECIFIC = False

_LEAST_OPSET = 9
"""From which on BatchNormalization is per channel, and its attributes mean what they do now."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Affine:
    """y = x * scale + shift for each channel, (channels,) float64."""

    scale: Doubles
    shift: Doubles


@dataclass(frozen=True)
class _Layer:
    """The operator before a BatchNormalization, with weights that hold it as well."""

    node: ir.Node
    weight: Doubles
    bias: Doubles
    also: tuple[ir.Node, ...] = ()
    """Nodes besides it whose work is in `bias`."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with its BatchNormalization nodes folded where that is right."""
    how = "folded into the operator before it"
    return rewrite(model, "fold_batchnorm", "BatchNormalization", how, _edit)


def _edit(model: ir.Model, node: ir.Node) -> bool:
    if not is_op(node, "BatchNormalization"):
        return False
    if opset_of(model) < _LEAST_OPSET:
        raise PassRefusedError(f"opset {opset_of(model)}, {_LEAST_OPSET} or newer is needed")
    _replace(model.graph, node, _fuse(node, _read(node)))
    return True


def _read(node: ir.Node) -> _Affine:
    """Return what a BatchNormalization computes; raise PassRefusedError where that is not fixed."""
    if node.attributes.get_int("training_mode", 0) or _extra_outputs(node):
        raise PassRefusedError("it is in training mode")
    arrays = [array_of(value) for value in node.inputs[1:5]]
    if len(arrays) != 4 or any(array is None or array.dtype.kind != "f" for array in arrays):
        raise PassRefusedError("its parameters are not all constant")
    scale, shift, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return _Affine(factor, shift - mean * factor)


def _extra_outputs(node: ir.Node) -> bool:
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])


def _fuse(node: ir.Node, affine: _Affine) -> _Layer:
    """Return the operator that gives the input of `node`, with `affine` in its weights."""
    between = node.inputs[0]
    if between is None:
        raise PassRefusedError("it lacks an input")
    if is_used_outside(between, (node,)):
        raise PassRefusedError("its input is used elsewhere too")
    before = between.producer()
    if is_op(before, "Conv", "ConvTranspose"):
        return _fuse_convolution(before, affine)
    if is_op(before, "Gemm"):
        return _fuse_gemm(before, affine)
    if is_op(before, "MatMul", "Add"):
        return _fuse_matmul(before, affine)
    raise PassRefusedError(f"it follows {before.op_type if before else 'an input of the graph'}")


def _fuse_convolution(node: ir.Node, affine: _Affine) -> _Layer:
    weight, bias = _weight(node, 1), _bias(node, 2)
    channels = len(affine.scale)
    if node.op_type == "Conv":
        fused = weight * affine.scale.reshape(-1, *[1] * (weight.ndim - 1))
    else:  # (C in, C out / groups, ...): the channels of one group after the other
        groups = node.attributes.get_int("group", 1)
        grouped = weight.reshape(groups, -1, *weight.shape[1:])
        by_group = affine.scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        fused = (grouped * by_group).reshape(weight.shape)
    return _Layer(node, fused, _spread(bias, channels) * affine.scale + affine.shift)


def _fuse_gemm(node: ir.Node, affine: _Affine) -> _Layer:
    weight = _weight(node, 1)
    by_column = affine.scale.reshape((-1, 1) if node.attributes.get_int("transB", 0) else (1, -1))
    bias = _bias(node, 2) * node.attributes.get_float("beta", 1.0)
    return _Layer(
        node, weight * by_column, _spread(bias, len(affine.scale)) * affine.scale + affine.shift
    )


def _fuse_matmul(node: ir.Node, affine: _Affine) -> _Layer:
    """Fuse MatMul, or an Add of a constant to one; only of matrices: there columns are channels."""
    product, bias = (node, np.zeros(1)) if node.op_type == "MatMul" else _split(node)
    shape = node.outputs[0].shape
    if shape is None or len(shape) != 2:
        raise PassRefusedError("the MatMul before it is not known to give a matrix")
    weight = _weight(product, 1)
    fused_bias = _spread(bias, len(affine.scale)) * affine.scale + affine.shift
    return _Layer(product, weight * affine.scale, fused_bias, () if node is product else (node,))


def _split(add: ir.Node) -> tuple[ir.Node, Doubles]:
    """Return the MatMul to which `add` adds, and the constant that it adds."""
    for product, other in zip(add.inputs, reversed(add.inputs), strict=True):
        node = made_by(product, "MatMul")
        if node is not None:
            if is_used_outside(node.outputs[0], (add,)):
                raise PassRefusedError("the MatMul before its Add is used elsewhere too")
            return node, _constant(other)
    raise PassRefusedError("it follows Add")


def _constant(value: ir.Value | None) -> Doubles:
    array = array_of(value)
    if array is None or array.dtype.kind != "f":
        raise PassRefusedError("the weights before it are not all constant")
    return np.asarray(array, np.float64)


def _weight(node: ir.Node, index: int) -> Doubles:
    return _constant(node.inputs[index] if index < len(node.inputs) else None)


def _bias(node: ir.Node, index: int) -> Doubles:
    given = node.inputs[index] if index < len(node.inputs) else None
    return np.zeros(1) if given is None else _constant(given)


def _spread(bias: Doubles, channels: int) -> Doubles:
    """Return `bias` as (channels,); raise PassRefusedError where it differs from row to row."""
    if bias.size not in (1, channels) or (bias.size > 1 and bias.shape[-1] != channels):
        raise PassRefusedError(f"a bias of shape {bias.shape} is not one number for each channel")
    return np.broadcast_to(bias.reshape(-1), (channels,))


def _replace(graph: ir.Graph, node: ir.Node, layer: _Layer) -> None:
    """Put the layer in place of itself and `node`; nothing is changed where it is refused."""
    before, y, home = layer.node, node.outputs[0], node.graph
    if home is None or before.graph is not home:
        raise PassRefusedError("the operator before it is in another graph")
    fused_weight, fused_bias = _round(layer)
    weight = add_constant(graph, f"{y.name}_weight", fused_weight)
    bias = add_constant(graph, f"{y.name}_bias", fused_bias)
    attributes = {a.name: a for a in before.attributes.values() if a.name != "beta"}
    op_type = "Gemm" if before.op_type == "MatMul" else before.op_type
    fused = ir.Node("", op_type, [before.inputs[0], weight, bias], attributes.values())
    ir.convenience.replace_nodes_and_values(
        home, node, [node, *layer.also, before], [fused], [y], fused.outputs
    )


def _round(layer: _Layer) -> tuple[npt.NDArray, npt.NDArray]:
    """Return weight and bias in the type that the operator has its weights in."""
    given = array_of(layer.node.inputs[1])
    assert given is not None  # it was read before
    with np.errstate(over="ignore"):
        weight, bias = layer.weight.astype(given.dtype), layer.bias.astype(given.dtype)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise PassRefusedError("the folded weights are not finite")
    return weight, bias

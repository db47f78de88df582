"""An ONNX graph in float64, and what runs one.

Every weight, cast and constant in float32, float16 or bfloat16 becomes float64. Where an operator
has no float64 in ONNX (QuantizeLinear, the scales of Resize), it is given float32 between casts.
onnxruntime has kernels in float64 for some operators alone, of which Conv is none; onnx's reference
evaluator has them all. Convolutions and pooling run in torch there, since its own are loops in
Python.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper

from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.onnx_store import copy_of, nodes_of, subgraphs_of, tensors_of
from foldbench.exporters.parity import input_dtype

Array = npt.NDArray[Any]
Run = Callable[[Array], list[Array]]
"""From an input to the outputs that were asked for, in order."""

_NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_STANDARD = ("", "ai.onnx")
_TYPES = ("to", "dtype", "output_dtype", "stash_type")
"""Attributes that name a type."""
_NAMES_FLOAT32 = ("DequantizeLinear", "QuantizeLinear", "LayerNormalization", "RMSNormalization")
"""Operators that take no float64 there. The last two compute in the type of their input anyway."""
_FLOAT, _DOUBLE = "tensor(float)", "tensor(double)"


def to_float64(model: ModelProto) -> ModelProto:
    """Return `model`, whose weights are all in it, in float64; functions are inlined.

    Raises ValueError or what onnx raises where a node is none of ONNX's own.
    """
    result = copy_of(model)
    if result.functions:
        result = inliner.inline_local_functions(result)
    foreign = {n.op_type for n in nodes_of(result) if n.domain not in _STANDARD}
    if foreign:
        raise ValueError(f"no float64 is known for {', '.join(sorted(foreign))}")
    for tensor in tensors_of(result):
        _widen(tensor)
    _convert(result.graph, max(o.version for o in result.opset_import if o.domain in _STANDARD))
    return result


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type in _NARROW:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _convert(graph: GraphProto, opset: int) -> None:
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    nodes = [new for node in graph.node for new in _converted(node, opset)]
    del graph.node[:]
    graph.node.extend(nodes)


def _converted(node: NodeProto, opset: int) -> Iterator[NodeProto]:
    """Yield the nodes that do in float64 what `node` does."""
    for inner in subgraphs_of(node):
        _convert(inner, opset)
    _widen_attributes(node)
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    behind = []
    for place, name in enumerate(node.input):
        if name and _only_float32(schema.inputs, place):
            narrow = f"{name}/float32/{node.output[0]}/{place}"
            yield helper.make_node("Cast", [name], [narrow], to=TensorProto.FLOAT)
            node.input[place] = narrow
    for place, name in enumerate(node.output):
        if name and _only_float32(schema.outputs, place):
            narrow = f"{name}/float32"
            behind.append(helper.make_node("Cast", [narrow], [name], to=TensorProto.DOUBLE))
            node.output[place] = narrow
    yield node
    yield from behind


def _only_float32(formal: Any, place: int) -> bool:
    """Return whether a parameter takes float32 and no float64."""
    types = formal[min(place, len(formal) - 1)].types
    return _FLOAT in types and _DOUBLE not in types


def _widen_attributes(node: NodeProto) -> None:
    for attribute in list(node.attribute):
        if attribute.name in _TYPES and attribute.i in _NARROW:
            if node.op_type not in _NAMES_FLOAT32:
                attribute.i = TensorProto.DOUBLE
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            number = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            tensor = numpy_helper.from_array(np.array(number, np.float64))
            node.attribute.remove(attribute)
            node.attribute.append(helper.make_attribute("value", tensor))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, np.float64))
        node.attribute.append(helper.make_attribute("value", zero))


def run_in_onnxruntime(model: ModelProto, outputs: list[str], optimise: bool = True) -> Run:
    """Return what runs `model` in onnxruntime on the CPU; raises what onnxruntime raises."""
    session = open_session(model, optimise=optimise)
    (given,) = session.get_inputs()
    kind = input_dtype(given.type)
    return lambda x: [np.asarray(y) for y in session.run(outputs, {given.name: x.astype(kind)})]


def run_in_evaluator(model: ModelProto, outputs: list[str]) -> Run:
    """Return what runs `model`, which is in float64, in onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    from foldbench.exporters.onnx_operators import OPERATORS

    evaluator = ReferenceEvaluator(model, new_ops=list(OPERATORS))
    given = {tensor.name for tensor in model.graph.initializer}
    (name,) = (value.name for value in model.graph.input if value.name not in given)

    def run(x: Array) -> list[Array]:
        with np.errstate(all="ignore"):
            found = evaluator.run(outputs, {name: x.astype(np.float64)})
        return [np.asarray(y) for y in found]

    return run

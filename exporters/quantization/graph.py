"""The graph side of quantization: which nodes can be in int8, and a graph in which some are."""

from collections.abc import Collection, Iterable

import onnx
import onnx.version_converter
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnxruntime.quantization import QDQQuantizer, QuantType, TensorsData

from foldbench.bench.errors import ExportError, one_line

COMPUTING = ("Conv", "Gemm", "MatMul")
"""Operators whose weights are worth quantizing."""
PASSING = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
"""Operators that only choose among numbers: exact in int8, so they follow what reads them."""
RANGED = (*COMPUTING, *PASSING)
"""Operators whose inputs and outputs need a range."""

_LEAST_OPSET = 13
"""From which on DequantizeLinear has a scale for each channel."""
_OPTIONS = {
    # Logits and other results of matrix products stay as accurate as their int32 sums are; a
    # convolution has to give int8 for onnxruntime to run it in int8.
    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
    # Quantize what a passing operator reads even where an element-wise operator in float made it.
    "ForceQuantizeNoInputCheck": True,
}


class Wiring:
    """Who makes and who reads each tensor of a graph."""

    def __init__(self, graph: GraphProto) -> None:
        self.nodes = list(graph.node)
        self.constants = {constant.name: constant for constant in graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}
        values = (*graph.input, *graph.value_info, *graph.output)
        self._types = {value.name: value.type.tensor_type for value in values}

    def is_output(self, name: str) -> bool:
        """Return whether it is what the graph returns."""
        return name in self._outputs

    def holds_one_number(self, name: str) -> bool:
        """Return whether it is a constant with a single element."""
        constant = self.constants.get(name)
        return constant is not None and numpy_helper.to_array(constant).size == 1

    def shape_of(self, name: str) -> tuple[int | None, ...] | None:
        """Return its shape, None for each size that can differ; None where it is not known."""
        found = self._types.get(name)
        if found is None or not found.HasField("shape"):
            return None
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in found.shape.dim)


def infer_shapes(model: ModelProto) -> ModelProto:
    """Return a copy of `model` that tells the shape of every tensor and names every node."""
    known = onnx.shape_inference.infer_shapes(model)
    taken = {node.name for node in known.graph.node}
    for number, node in enumerate(known.graph.node):
        if not node.name:
            node.name = next(
                name
                for name in (f"{node.op_type}_{number}{'_' * i}" for i in range(len(taken) + 1))
                if name not in taken
            )
            taken.add(node.name)
    return known


def make_quantizable(model: ModelProto) -> ModelProto:
    """Return `model` in an opset that has int8 by channel, with its weights as initializers.

    Networks that torch exported here are so already; others' may hold weights in Constant nodes.
    Raises ExportError where onnx cannot convert an older one.
    """
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    newer = model
    if opset < _LEAST_OPSET:
        try:
            newer = onnx.version_converter.convert_version(model, _LEAST_OPSET)
        except Exception as error:  # onnx raises kinds of its own
            raise ExportError(
                f"it is in opset {opset}, int8 by channel needs {_LEAST_OPSET}, and onnx cannot "
                f"convert it ({one_line(error)}): export the network anew with opset "
                f"{_LEAST_OPSET} or newer"
            ) from error
        del newer.metadata_props[:]
        newer.metadata_props.extend(model.metadata_props)
    result = ModelProto()
    result.CopyFrom(newer)
    for node in list(result.graph.node):
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and not node.domain and value is not None:
            result.graph.initializer.add().CopyFrom(value)
            result.graph.initializer[-1].name = node.output[0]
            result.graph.node.remove(node)
    return result


def find_candidates(model: ModelProto) -> tuple[NodeProto, ...]:
    """Return the nodes that can be in int8: those in float32 with constant weights."""
    constants = {c.name: c for c in model.graph.initializer}
    return tuple(
        node
        for node in model.graph.node
        if node.op_type in COMPUTING
        and not node.domain
        and node.input[1] in constants
        and constants[node.input[1]].data_type == TensorProto.FLOAT
    )


def count_weights(model: ModelProto, node: NodeProto) -> int:
    """Return how many numbers the weight tensor of a candidate holds."""
    (weight,) = (c for c in model.graph.initializer if c.name == node.input[1])
    return int(numpy_helper.to_array(weight).size)


def quantize_nodes(model: ModelProto, ranges: TensorsData, names: Iterable[str]) -> ModelProto:
    """Return `model` with the candidates `names` in int8, and what passes numbers on to them.

    Activations are uint8 by tensor, weights int8 by output channel: what the int8 kernels of
    onnxruntime on x86 are made for. `model` is what `infer_shapes` returns.
    """
    chosen = set(names)
    copy = ModelProto()
    copy.CopyFrom(model)
    quantizer = QDQQuantizer(
        copy,
        True,
        False,
        QuantType.QInt8,
        QuantType.QUInt8,
        ranges,
        sorted(chosen | _passing_to(model, chosen)),
        [],
        list(RANGED),
        dict(_OPTIONS),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: ModelProto = quantizer.model.model
    return result


def _passing_to(model: ModelProto, chosen: Collection[str]) -> set[str]:
    """Return the passing nodes whose results only nodes in int8 read."""
    wiring = Wiring(model.graph)
    found: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type not in PASSING or wiring.is_output(node.output[0]):
            continue
        readers = wiring.readers.get(node.output[0], [])
        if readers and all(_takes_codes(reader, node, chosen, found) for reader in readers):
            found.add(node.name)
    return found


def _takes_codes(
    reader: NodeProto, node: NodeProto, chosen: Collection[str], passing: Collection[str]
) -> bool:
    """Return whether `reader` is in int8 and reads the result of `node` as its activation."""
    first = reader.input[0] == node.output[0]
    return first and (reader.name in chosen or reader.name in passing)

"""Element-wise operators between two quantized tensors as a table of 256 entries.

What lies between a DequantizeLinear and a QuantizeLinear, and looks at one number at a time, maps
one of 256 codes to one of 256 codes. onnxruntime itself works the table out, so that it holds
exactly what the operators would have given. GatherElements looks codes up. On a core with AVX-512
that took 0.7 ns a number; to dequantize, run the six operators of Mish and quantize took 1.0 ns in
the cache and 1.8 ns out of it. For one machine alone, a compiled operator takes its place
(`bench.compiler.body.LOOKUP`).

A convolution in int8 works in NHWC on the CPU. The tables are put in NHWC too, between transposes
that onnxruntime then cancels against those around its convolutions.
"""

from collections.abc import Mapping
from math import gcd, prod

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from foldbench.bench.arrays import Pixels
from foldbench.bench.compiler.body import LOOKUP
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import custom_operator_facts, host_facts
from foldbench.exporters.passes._graphs.elementwise import OPERATORS
from foldbench.exporters.quantization.graph import Wiring, infer_shapes

CODES = 256
LEAST_COST = 4
"""Chains that cost less are faster as they are: onnxruntime fuses one or two operators itself."""
_COSTS = {"Mish": 4, "Softplus": 4}
_MOST_ROWS = 64
"""The lookup is spread over threads by rows; each row has its own copy of the table."""
_NHWC, _NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class _Chain:
    """The nodes between `dequantize` and `quantize`, in the order of the graph."""

    def __init__(self, dequantize: NodeProto, nodes: list[NodeProto], quantize: NodeProto) -> None:
        self.dequantize = dequantize
        self.nodes = nodes
        self.quantize = quantize


def write_tables(model: ModelProto, custom_operator: bool = False) -> tuple[ModelProto, int]:
    """Return a copy of a quantized `model` with tables, and how many there are.

    With `custom_operator` a compiled operator reads them, which the copy's metadata says.
    """
    working = infer_shapes(model)
    wiring = Wiring(working.graph)
    chains = [
        chain
        for node in working.graph.node
        if node.op_type == "QuantizeLinear" and (chain := _find_chain(node, wiring)) is not None
    ]
    replaced: dict[str, list[NodeProto]] = {}
    dropped: set[str] = set()
    for chain in chains:
        nodes = _look_up(chain, working, wiring, custom_operator)
        if nodes is None:
            continue
        replaced[chain.quantize.output[0]] = nodes
        dropped |= {node.output[0] for node in chain.nodes}
    kept: list[NodeProto] = []
    for node in working.graph.node:
        if node.output[0] in replaced:
            kept += replaced[node.output[0]]
        elif node.output[0] not in dropped:
            kept.append(node)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del working.graph.node[:], working.graph.value_info[:]
    working.graph.node.extend(kept)
    _remove_unused(working.graph)
    if custom_operator and replaced:
        working.opset_import.append(helper.make_opsetid(custom_operators.DOMAIN, 1))
        facts = host_facts(onnxruntime.__version__) | custom_operator_facts([LOOKUP.text])
        for key, value in facts.items():
            working.metadata_props.add(key=key, value=value)
    return working, len(replaced)


def _find_chain(quantize: NodeProto, wiring: Wiring) -> _Chain | None:
    """Return the element-wise operators that end in `quantize`, if they begin in one tensor."""
    nodes: dict[str, NodeProto] = {}
    begins: dict[str, NodeProto] = {}
    waiting = [quantize.input[0]]
    while waiting:
        name = waiting.pop()
        node = wiring.makers.get(name)
        if name in nodes or name in begins or wiring.holds_one_number(name):
            continue
        if node is not None and node.op_type == "DequantizeLinear":
            begins[name] = node
        elif node is not None and node.op_type in OPERATORS and not node.domain:
            nodes[name] = node
            waiting += [given for given in node.input if given]
        else:
            return None
    inside = {id(node) for node in (*nodes.values(), quantize)}
    leaks = any(wiring.is_output(name) or _ids(wiring, name) - inside for name in nodes)
    cost = sum(_COSTS.get(node.op_type, 1) for node in nodes.values())
    if len(begins) != 1 or leaks or cost < LEAST_COST:
        return None
    (dequantize,) = begins.values()
    if not (_has_codes(dequantize, wiring) and _has_codes(quantize, wiring)):
        return None
    ordered = [node for node in wiring.nodes if id(node) in inside and node is not quantize]
    return _Chain(dequantize, ordered, quantize)


def _ids(wiring: Wiring, name: str) -> set[int]:
    return {id(node) for node in wiring.readers.get(name, ())}


def _has_codes(node: NodeProto, wiring: Wiring) -> bool:
    """Return whether it quantizes the whole tensor alike, to uint8, and not weights."""
    zero = wiring.constants.get(node.input[2]) if len(node.input) > 2 else None
    uint8 = zero is not None and zero.data_type == TensorProto.UINT8
    return (
        uint8 and wiring.holds_one_number(node.input[1]) and node.input[0] not in wiring.constants
    )


def _look_up(
    chain: _Chain, model: ModelProto, wiring: Wiring, custom_operator: bool
) -> list[NodeProto] | None:
    """Return the nodes that look the chain's result up; None where its shape is not known."""
    shape = wiring.shape_of(chain.quantize.input[0])
    sizes = [size for size in shape[1:] if size] if shape else []
    if not shape or len(sizes) < len(shape) - 1:
        return None
    turned = len(sizes) == 3
    name, given = chain.quantize.output[0], chain.dequantize.input[0]
    result = f"{name}_found" if turned else name
    first = [_make("Transpose", [given], f"{name}_nhwc", perm=_NHWC)] if turned else []
    last = [_make("Transpose", [result], name, perm=_NCHW)] if turned else []
    codes = f"{name}_nhwc" if turned else given
    table = _work_out(chain, model, wiring)
    if custom_operator:
        _add_constants(model, {f"{name}_table": table})
        inputs = [codes, f"{name}_table"]
        found = [_make(LOOKUP.name, inputs, result, domain=custom_operators.DOMAIN)]
        return [*first, *found, *last]
    rows = gcd(prod(sizes), _MOST_ROWS)
    back = [-1, *sizes[1:], sizes[0]] if turned else [-1, *sizes]
    constants: dict[str, npt.NDArray] = {
        f"{name}_table": np.repeat(table[None], rows, axis=0),
        f"{name}_rows": np.array([rows, -1], np.int64),
        f"{name}_shape": np.array(back, np.int64),
    }
    _add_constants(model, constants)
    nodes = [
        _make("Reshape", [codes, f"{name}_rows"], f"{name}_flat"),
        _make("Cast", [f"{name}_flat"], f"{name}_codes", to=TensorProto.INT32),
        _make("GatherElements", [f"{name}_table", f"{name}_codes"], f"{name}_mapped", axis=1),
        _make("Reshape", [f"{name}_mapped", f"{name}_shape"], result),
    ]
    return [*first, *nodes, *last]


def _add_constants(model: ModelProto, constants: Mapping[str, npt.NDArray]) -> None:
    for key, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(array, key))


def _make(op: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs, [output], name=f"{output}_{op}", **attributes)


def _work_out(chain: _Chain, model: ModelProto, wiring: Wiring) -> Pixels:
    """Return what the chain makes of each code, (256,) uint8."""
    nodes = [chain.dequantize, *chain.nodes, chain.quantize]
    needed = {name for node in nodes for name in node.input if name in wiring.constants}
    given, result = chain.dequantize.input[0], chain.quantize.output[0]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info(given, TensorProto.UINT8, [CODES])],
        [helper.make_tensor_value_info(result, TensorProto.UINT8, [CODES])],
        [wiring.constants[name] for name in sorted(needed)],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = onnxruntime.InferenceSession(
        part.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: Pixels = session.run(None, {given: np.arange(CODES, dtype=np.uint8)})[0]
    return found


def _remove_unused(graph: GraphProto) -> None:
    """Remove nodes and constants that nothing reads any more."""
    needed = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(NodeProto.FromString(node.SerializeToString()))
            needed |= set(node.input)
    constants = [
        TensorProto.FromString(constant.SerializeToString())
        for constant in graph.initializer
        if constant.name in needed
    ]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)

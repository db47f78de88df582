"""Write chains of element-wise operators as one operator each; for this machine alone.

onnxruntime goes over memory once for every operator that it has not fused. A chain becomes a custom
operator that goes over it once, compiled for this processor (`bench.host_files.custom_operators`),
with what comes before and after as it was. Where all inputs have one shape, the order of elements
does not matter, so that the pass `nchwc_strip` can take out the reorderings around it.

What onnxruntime fuses itself is left to it: activations and sums in a convolution, activations in a
matrix product, constant factors in weights, GELU, Swish, HardSwish, layer normalisation, of this
version on this processor. It is asked: the operators that are still there in the graph that it
makes of the file are those that it has not fused. A chain is taken if it saves two passes or more;
fewer were not measured to help.

Without a C compiler nothing is changed, and the report says so. A file with such operators says in
its metadata what they compute.
"""

import onnx_ir as ir
import onnxruntime
from onnx import ModelProto, helper
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from foldbench.bench.errors import BackendError
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import OPTIMIZATION, bodies_in, custom_operator_facts
from foldbench.bench.records import PassReport
from foldbench.exporters.onnx_store import copy_of, is_slim
from foldbench.exporters.passes._graphs.chains import Chain, find_chains
from foldbench.exporters.passes._graphs.elementwise import LEAST_OPSET
from foldbench.exporters.passes._graphs.optimised import optimise
from foldbench.exporters.passes._graphs.rewrite import open_graph, opset_of

ERROR_BOUND = 3e-7
TARGETS = ("host",)
HOST_SPECIFIC = True

LEAST_SAVED = 2
"""Passes over memory."""
_NAME = "fuse_elementwise"
_VERSION = 1
"""Of the operators in the domain."""
_NO_KERNEL = ("Mish",)
"""onnxruntime replaces them by others, which does not fuse them."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with chains of element-wise operators as custom operators.

    The copy is exact where there is none. Raises what onnxruntime raises on a model that it cannot
    load.
    """
    facts = {p.key: p.value for p in model.metadata_props}
    if OPTIMIZATION in facts:
        return copy_of(model), _report(0, "the graph is optimised already")
    if is_slim(model):
        return copy_of(model), _report(0, "its weights lie beside the file, which is above 2 GiB")
    working = open_graph(copy_of(model))  # reading a constant may name it
    if opset_of(working) < LEAST_OPSET:
        return copy_of(model), _report(
            0, f"opset {opset_of(working)}, {LEAST_OPSET} or newer is needed"
        )
    ShapeInferencePass(strict_mode=False, data_prop=False)(working)
    found = _find(working)
    chains = [chain for chain in found if chain.passes - 1 >= LEAST_SAVED]
    short = f"{len(found) - len(chains)} too short to gain" if len(found) > len(chains) else ""
    if not chains:
        return copy_of(model), _report(0, short or "no chain that onnxruntime does not fuse itself")
    bodies = {*(bodies_in(facts) or ()), *(chain.body.text for chain in chains)}
    try:
        custom_operators.register(onnxruntime.SessionOptions(), bodies)
    except BackendError as error:
        return copy_of(model), _report(0, str(error))
    for chain in chains:
        _replace(chain)
    working.opset_imports[custom_operators.DOMAIN] = _VERSION
    RemoveUnusedNodesPass()(working)
    rewritten = ir.to_proto(working)
    helper.set_model_props(
        rewritten, facts | custom_operator_facts(onnxruntime.__version__, bodies)
    )
    return rewritten, _report(len(chains), "; ".join(filter(None, (_tell(chains), short))))


def _report(changed: int, detail: str) -> PassReport:
    return PassReport(name=_NAME, changed=changed, detail=detail)


def _tell(chains: list[Chain]) -> str:
    operators = sum(len(chain.nodes) for chain in chains)
    passes = sum(chain.passes - 1 for chain in chains)
    kinds = len({chain.body.name for chain in chains})
    return (
        f"chains of {operators} operators as {len(chains)} ({kinds} different), {passes} passes "
        "over memory fewer; for this machine only"
    )


def _find(model: ir.Model) -> list[Chain]:
    """Return all chains of operators that onnxruntime has not fused."""
    nodes = list(model.graph.all_nodes())
    names = [node.name for node in nodes]
    for number, node in enumerate(nodes):
        node.name = f"foldbench_{number}"
    kept = {node.name for node in optimise(ir.to_proto(model)).graph.all_nodes()}
    free = {node for node in nodes if node.name in kept or node.op_type in _NO_KERNEL}
    for node, name in zip(nodes, names, strict=True):
        node.name = name
    graphs = dict.fromkeys(node.graph for node in nodes)
    return [
        chain
        for graph in graphs
        if isinstance(graph, ir.Graph)
        for chain in find_chains(graph, free.__contains__)
    ]


def _replace(chain: Chain) -> None:
    last = chain.nodes[-1]
    tape = ir.tape.Tape()
    y = tape.op(chain.body.name, list(chain.inputs), domain=custom_operators.DOMAIN)
    y.type, y.shape = last.outputs[0].type, last.outputs[0].shape
    graph = last.graph
    assert graph is not None  # it was found in one
    ir.convenience.replace_nodes_and_values(
        graph, last, chain.nodes[::-1], tape.nodes, last.outputs, [y]
    )

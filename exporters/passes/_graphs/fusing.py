"""Chains of element-wise operators as one custom operator each, for a CPU or a GPU."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir
from onnx import ModelProto, helper
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from foldbench.bench.errors import BackendError
from foldbench.bench.host_files.custom_operators import DOMAIN
from foldbench.bench.host_files.marks import bodies_in
from foldbench.bench.records import PassReport
from foldbench.exporters.onnx_store import copy_of
from foldbench.exporters.passes._graphs.chains import Chain, find_chains
from foldbench.exporters.passes._graphs.elementwise import LEAST_OPSET
from foldbench.exporters.passes._graphs.optimised import optimise, why_not_optimised
from foldbench.exporters.passes._graphs.rewrite import open_graph, opset_of

LEAST_SAVED = 2
"""Passes over memory."""
_VERSION = 1
"""Of the operators in the domain."""
_NO_KERNEL = ("Mish",)
"""onnxruntime replaces them by others, which does not fuse them."""


@dataclass(frozen=True)
class Fusing:
    """Who fuses, and how its operators are made where the file is run."""

    name: str
    """Of the pass."""
    require: Callable[[Collection[str]], None]
    """Make the operators of bodies; raises BackendError where that cannot be done."""
    facts: Callable[[Collection[str]], Mapping[str, str]]
    """The metadata of a file with operators of bodies."""
    only_for: str
    """What the file is for, as text."""


def fuse(model: ModelProto, fusing: Fusing) -> tuple[ModelProto, PassReport]:
    """Return `model` with chains of element-wise operators as custom operators.

    The copy is exact where there is none. Raises what onnxruntime raises on a model that it cannot
    load.
    """

    def left(detail: str) -> tuple[ModelProto, PassReport]:
        return copy_of(model), PassReport(name=fusing.name, changed=0, detail=detail)

    facts = {p.key: p.value for p in model.metadata_props}
    if reason := why_not_optimised(model):
        return left(reason)
    working = open_graph(copy_of(model))  # reading a constant may name it
    if opset_of(working) < LEAST_OPSET:
        return left(f"opset {opset_of(working)}, {LEAST_OPSET} or newer is needed")
    ShapeInferencePass(strict_mode=False, data_prop=False)(working)
    found = _find(working)
    chains = [chain for chain in found if chain.passes - 1 >= LEAST_SAVED]
    short = f"{len(found) - len(chains)} too short to gain" if len(found) > len(chains) else ""
    if not chains:
        return left(short or "no chain that onnxruntime does not fuse itself")
    bodies = {*(bodies_in(facts) or ()), *(chain.body.text for chain in chains)}
    try:
        fusing.require(bodies)
    except BackendError as error:
        return left(str(error))
    for chain in chains:
        _replace(chain)
    working.opset_imports[DOMAIN] = _VERSION
    RemoveUnusedNodesPass()(working)
    rewritten = ir.to_proto(working)
    helper.set_model_props(rewritten, facts | dict(fusing.facts(bodies)))
    detail = "; ".join(filter(None, (_tell(chains, fusing.only_for), short)))
    return rewritten, PassReport(name=fusing.name, changed=len(chains), detail=detail)


def _tell(chains: list[Chain], only_for: str) -> str:
    operators = sum(len(chain.nodes) for chain in chains)
    passes = sum(chain.passes - 1 for chain in chains)
    kinds = len({chain.body.name for chain in chains})
    return (
        f"chains of {operators} operators as {len(chains)} ({kinds} different), {passes} passes "
        f"over memory fewer; {only_for}"
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
    y = tape.op(chain.body.name, list(chain.inputs), domain=DOMAIN)
    y.type, y.shape = last.outputs[0].type, last.outputs[0].shape
    graph = last.graph
    assert graph is not None  # it was found in one
    ir.convenience.replace_nodes_and_values(
        graph, last, chain.nodes[::-1], tape.nodes, last.outputs, [y]
    )

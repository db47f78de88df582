"""Which module of the network computes each value of an exported graph.

torch's exporter notes the modules that a node was traced in. Those notes are taken down before the
graph is rewritten and the notes are removed, and carried over to what became of the nodes.
"""

import ast
from collections.abc import Iterator

from onnx import ModelProto, NodeProto

from foldbench.bench.analysis.origins import GraphNode, Modules, trace_origins

_SCOPES = "pkg.torch.onnx.name_scopes"
_NO_SCOPE = "_empty_nn_module_stack"
"""What torch.export notes for what no module computes, such as a range."""


def graph_nodes(model: ModelProto) -> list[GraphNode]:
    """Return the nodes of the graph, in order; those of graphs within nodes are not looked at."""
    return [
        GraphNode(n.name, n.op_type, tuple(filter(None, n.input)), tuple(filter(None, n.output)))
        for n in model.graph.node
    ]


def module_names(exported: ModelProto, rewritten: ModelProto) -> dict[str, Modules]:
    """Return the modules that compute each value of `rewritten`, which was made from `exported`.

    The first computes it, the others were fused into it; the network itself is the empty name. What
    no module is known of is left out; all is, where the exporter noted none.
    """
    owners = {
        value: (owner,)
        for node in exported.graph.node
        for owner in _owner(node)
        for value in node.output
        if value
    }
    if not owners:
        return {}
    nodes = graph_nodes(rewritten)
    origins = trace_origins(graph_nodes(exported), owners, nodes)
    return {
        value: origin.modules
        for node, origin in zip(nodes, origins, strict=True)
        if origin.modules
        for value in node.outputs
    }


def _owner(node: NodeProto) -> Iterator[str]:
    """Yield the innermost module that the exporter noted, if it did."""
    noted = next((p.value for p in node.metadata_props if p.key == _SCOPES), None)
    try:
        scopes = ast.literal_eval(noted) if noted else None
    except (ValueError, SyntaxError):
        return
    if isinstance(scopes, list) and len(scopes) > 1:  # the last is the operation itself
        owner = str(scopes[-2])
        if not owner.startswith(_NO_SCOPE):
            yield owner

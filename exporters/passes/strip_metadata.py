"""Remove what the exporter notes on nodes and values: source paths, stack traces, class names."""

from collections.abc import Iterator

import onnx_ir as ir
from onnx import ModelProto

from foldbench.bench.records import PassReport, Target
from foldbench.exporters.passes._graphs.rewrite import open_graph

ERROR_BOUND = 0.0
"""Notes have no part in the computation."""
TARGETS = ("cpu", "openvino", "cuda", "tensorrt", "host")
ONLY_FOR: Target | None = None


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` without notes; the model's own metadata (provenance) stays."""
    rewritten = open_graph(model)
    noted = 0
    for part in _parts(rewritten):
        noted += bool(part.metadata_props or part.doc_string)
        part.metadata_props.clear()
        part.doc_string = None
    detail = f"notes removed in {noted} places" if noted else "no notes found"
    report = PassReport(name="strip_metadata", changed=noted, detail=detail)
    if noted:
        return ir.to_proto(rewritten), report
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy, report


def _parts(model: ir.Model) -> Iterator[ir.Graph | ir.Function | ir.Node | ir.Value]:
    """Yield everything in the graph and its functions that can carry a note."""
    for root in (model.graph, *model.functions.values()):
        yield root
        yield from root.inputs
        if isinstance(root, ir.Graph):
            yield from root.initializers.values()
        for node in ir.traversal.RecursiveGraphIterator(root):
            yield node
            yield from node.outputs
            for attribute in node.attributes.values():
                yield from _subgraphs(attribute)


def _subgraphs(attribute: ir.Attr) -> Iterator[ir.Graph | ir.Value]:
    """Yield the graphs that an If, Loop or Scan holds; the iterator visits their nodes."""
    if attribute.type == ir.AttributeType.GRAPH:
        graphs = [attribute.as_graph()]
    elif attribute.type == ir.AttributeType.GRAPHS:
        graphs = list(attribute.as_graphs())
    else:
        return
    for graph in graphs:
        yield graph
        yield from graph.inputs
        yield from graph.initializers.values()

"""Parts of an .onnx file: where one tensor alone connects what is before it with what is behind."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.utils import Extractor

from foldbench.bench.errors import ExportError, one_line
from foldbench.exporters.onnx_store import opened_onnx, subgraphs_of, write_onnx

_FLAT = "flat_output"


@dataclass(frozen=True)
class Cut:
    """A place where the graph falls into two."""

    tensor: str
    """What leads over it, float32."""
    shape: tuple[int, ...]
    """Of the tensor, without the batch."""
    nodes: int
    """How many nodes of the graph, in the order of the file, are before it."""


@dataclass(frozen=True)
class WrittenPart:
    """Nodes between two cuts, as a file of their own."""

    operators: tuple[str, ...]
    """Their types, in order."""
    features: int
    """Numbers that it gives for each image."""


def list_cuts(path: Path) -> tuple[Cut, ...]:
    """Return where the graph at `path` can be cut, its input first and its output last.

    A graph of foldbench's form: images in, logits out, the batch first. Inside of branches there is
    no cut, nor where a shape is not known. Raises ExportError for a file that cannot be read.
    """
    with opened_onnx(path) as model:
        graph = _with_shapes(model, path).graph
    start, (end,) = _input_of(graph), graph.output
    shapes = _shapes_of(graph)
    found = [_cut_at(start.name, 0, shapes), _cut_at(end.name, len(graph.node), shapes)]
    if None in found:
        raise ExportError(f"{path}: the shapes of its input and its output are not known")
    if not any(any(subgraphs_of(node)) for node in graph.node):
        found[1:1] = [_cut_at(name, place, shapes) for place, name in _bridges(graph)]
    return tuple(cut for cut in found if cut is not None)


def write_part(path: Path, first: Cut, last: Cut, target: Path) -> WrittenPart:
    """Write the nodes between two of the cuts of the graph at `path` to `target`.

    What it gives is (N, features): flattened by a node of its own where it is not.
    """
    with opened_onnx(path) as model:
        shaped = _with_shapes(model, path)
        part = Extractor(shaped).extract_model([first.tensor], [last.tensor])
        operators = tuple(node.op_type for node in part.graph.node)
        part.metadata_props.extend(model.metadata_props)
        features = prod(last.shape)
        if len(last.shape) > 1:
            _flatten(part, features)
        write_onnx(part, target)
    return WrittenPart(operators, features)


def _flatten(part: ModelProto, features: int) -> None:
    output = part.graph.output[0]
    batch = output.type.tensor_type.shape.dim[0]
    size = batch.dim_value if batch.HasField("dim_value") else batch.dim_param
    part.graph.node.append(helper.make_node("Flatten", [output.name], [_FLAT], axis=1))
    flat = helper.make_tensor_value_info(_FLAT, TensorProto.FLOAT, [size, features])
    output.CopyFrom(flat)


def _with_shapes(model: ModelProto, path: Path) -> ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # onnx raises kinds of its own
        raise ExportError(f"{path}: its shapes cannot be inferred: {one_line(error)}") from error


def _bridges(graph: GraphProto) -> Iterator[tuple[int, str]]:
    """Yield each tensor that alone crosses a place between two nodes, and the place."""
    last_use = {graph.output[0].name: len(graph.node)}
    for index, node in reversed([*enumerate(graph.node)]):
        for name in node.input:
            last_use.setdefault(name, index)
    constant = {tensor.name for tensor in graph.initializer} | {""}
    before = _input_of(graph).name
    live = {before}
    for place, node in enumerate(graph.node[:-1], 1):
        if _is_constant(node, constant):
            constant.update(node.output)
            continue
        live |= {name for name in node.output if name in last_use}
        live = {name for name in live if last_use[name] >= place}
        if len(live) == 1 and before not in live:
            (before,) = live
            yield place, before


def _input_of(graph: GraphProto) -> ValueInfoProto:
    """Return the input that is none of the weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return next(value for value in graph.input if value.name not in weights)


def _is_constant(node: NodeProto, constant: set[str]) -> bool:
    return constant.issuperset(node.input)


def _shapes_of(graph: GraphProto) -> dict[str, tuple[int, ...] | None]:
    """Return the shape of each float32 tensor without its batch; None where it is not known."""
    batch = _input_of(graph).type.tensor_type.shape.dim[0]
    found: dict[str, tuple[int, ...] | None] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        sizes = kind.shape.dim
        known = kind.elem_type == TensorProto.FLOAT and len(sizes) > 1 and sizes[0] == batch
        known = known and all(size.dim_value > 0 for size in sizes[1:])
        found[value.name] = tuple(size.dim_value for size in sizes[1:]) if known else None
    return found


def _cut_at(name: str, place: int, shapes: dict[str, tuple[int, ...] | None]) -> Cut | None:
    shape = shapes.get(name)
    return Cut(name, shape, place) if shape else None

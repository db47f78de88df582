"""What passes that rewrite a graph share: reading constants and users, telling what was done."""

from collections import Counter
from collections.abc import Callable, Collection

import numpy.typing as npt
import onnx_ir as ir
from onnx import ModelProto
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from foldbench.bench.records import PassReport
from foldbench.exporters.onnx_store import copy_of, weights_folder

_STANDARD = ("", "ai.onnx")


class PassRefusedError(Exception):
    """Something that looks like what a pass rewrites, and why it is left as it is."""


def rewrite(
    model: ModelProto,
    name: str,
    what: str,
    how: str | Callable[[], str],
    edit: Callable[[ir.Model, ir.Node], bool],
    repeat: bool = False,
) -> tuple[ModelProto, PassReport]:
    """Return a copy of `model` with types and shapes inferred, and `edit` made at every node.

    `edit` says whether it rewrote something there; it raises PassRefusedError before it changes
    anything. Where nothing was rewritten, the copy is exact. `what` is looked for (plural), `how`
    is what became of it. `repeat` goes over the nodes until nothing is rewritten any more.
    """
    working = open_graph(model)
    ShapeInferencePass(strict_mode=False, data_prop=False)(working)
    done = 0
    left: Counter[str] = Counter()
    before = -1
    while before != done and (repeat or before < 0):
        before = done
        left.clear()
        for node in list(working.graph.all_nodes()):
            if node.graph is None:  # it was removed with another one
                continue
            try:
                done += edit(working, node)
            except PassRefusedError as refusal:
                left[str(refusal)] += 1
    told = [f"{done} {how if isinstance(how, str) else how()}"] if done else []
    told += [f"{count} left as before: {reason}" for reason, count in left.items()]
    report = PassReport(name=name, changed=done, detail="; ".join(told) or f"no {what} found")
    if done:
        RemoveUnusedNodesPass()(working)
        return ir.to_proto(working), report
    return copy_of(model), report


def open_graph(model: ModelProto) -> ir.Model:
    """Return the graph of `model`; weights that are too large for it are read where they lie."""
    graph = ir.from_proto(model)
    folder = weights_folder()
    if folder is not None:
        ir.external_data.set_base_dir(graph.graph, folder)
    return graph


def opset_of(model: ir.Model) -> int:
    """Return the version of ONNX's own operators in `model`; 1 where it names none."""
    return max((model.opset_imports.get(domain, 1) for domain in _STANDARD), default=1)


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Return whether `node` is one of ONNX's own operators `op_types`."""
    return node is not None and node.domain in _STANDARD and node.op_type in op_types


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """Return the node that makes `value`, if it is one of `op_types`."""
    node = value.producer() if value is not None else None
    return node if is_op(node, *op_types) else None


def array_of(value: ir.Value | None) -> npt.NDArray | None:
    """Return what `value` always holds; None when that can differ from one call to the next.

    An initializer that is also an input of the graph can be given another value.
    """
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def scalar_of(value: ir.Value | None) -> float | None:
    """Return the one number that `value` always holds, seen through casts; None without."""
    cast = made_by(value, "Cast", "CastLike", "Identity")
    array = array_of(cast.inputs[0] if cast else value)
    if array is None or array.size != 1 or array.dtype.kind not in "fiu":
        return None
    return float(array.reshape(()))


def sizes_of(value: ir.Value) -> list[int | str | None]:
    """Return each size of the shape of `value`: a number, a name or None; none without a shape."""
    return [size if isinstance(size, int) else size.value for size in value.shape or ()]


def is_used_outside(value: ir.Value, nodes: Collection[ir.Node]) -> bool:
    """Return whether anything but `nodes` reads `value`, the graph's own output included."""
    return value.is_graph_output() or any(use.node not in nodes for use in value.uses())


def remove_unused(value: ir.Value | None) -> None:
    """Remove the node that makes `value` if nothing reads what it makes, and those before it."""
    node = value.producer() if value is not None else None
    if node is None or node.graph is None or any(is_used_outside(v, ()) for v in node.outputs):
        return
    inputs = list(node.inputs)
    node.graph.remove(node, safe=True)
    for read in inputs:
        remove_unused(read)


def add_constant(graph: ir.Graph, name: str, array: npt.NDArray) -> ir.Value:
    """Add an initializer to `graph`, called `name` or the next free name like it."""
    taken = set(graph.initializers) | {value.name for value in graph.inputs}
    taken |= {value.name for node in graph.all_nodes() for value in node.outputs}
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    value = ir.Value(name=free, const_value=ir.tensor(array, name=free))
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value.shape = ir.Shape(array.shape)
    graph.register_initializer(value)
    return value

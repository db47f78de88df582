"""Find maximal chains of element-wise operators in a graph, and make bodies of them.

A chain is connected and convex, computes one shape, and has one result: whatever is computed within
it is read within it alone. So it can become one operator without computing anything twice.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from foldbench.bench.compiler.body import (
    MOST_INPUTS,
    Body,
    BodyBuilder,
    Extent,
    Input,
    Storage,
)
from foldbench.bench.errors import BackendError
from foldbench.exporters.passes._graphs.elementwise import (
    Operand,
    UntranslatableError,
    is_elementwise,
    translate,
)
from foldbench.exporters.passes._graphs.mish import Mish, match, match_form
from foldbench.exporters.passes._graphs.rewrite import PassRefusedError, scalar_of, sizes_of

_STORAGES: dict[ir.DataType, Storage] = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.FLOAT16: "float16",
}
_FREE = ("Identity", "Cast")
_PASSES = {"Mish": 3}
"""Operators that onnxruntime has no kernel for, with the number of those it runs instead."""

_Key = tuple[int | str, ...]
"""Equal for values of equal shape."""


@dataclass(frozen=True)
class Chain:
    """Operators that can become one."""

    nodes: tuple[ir.Node, ...]
    """In the order of the graph, the one that gives the result last."""
    inputs: tuple[ir.Value, ...]
    body: Body

    @property
    def passes(self) -> int:
        """How often its operators go over memory, each once."""
        return sum(
            _PASSES.get(node.op_type, 0 if node.op_type in _FREE else 1) for node in self.nodes
        )


def find_chains(graph: ir.Graph, is_free: Callable[[ir.Node], bool]) -> list[Chain]:
    """Return the chains of `graph` from operators that `is_free` allows, apart from each other.

    Types and shapes have to be inferred. Only float32 and float16 are computed.
    """
    keys = _shape_keys(graph)
    usable = {node for node in graph if is_free(node) and _is_usable(node, keys)}
    while True:
        groups = _group(graph, usable, keys)
        cut = {node for nodes in groups for node in nodes if _reads_outside(node, nodes)}
        if not cut:
            break
        usable -= cut
    chains = (_make_chain(nodes, keys) for nodes in groups)
    return [chain for chain in chains if chain is not None]


def _shape_keys(graph: ir.Graph) -> dict[ir.Value, _Key]:
    """Return a key for each value that a node of `graph` reads or makes."""
    keys: dict[ir.Value, _Key] = {}

    def key_of(value: ir.Value) -> _Key:
        dims = sizes_of(value)
        if value.shape is not None and None not in dims:
            return tuple(d for d in dims if d is not None)
        return ("the shape of", str(id(value)))

    for node in graph:
        for value in _tensors(node):
            keys.setdefault(value, key_of(value))
        read = {keys[value] for value in _tensors(node)}
        for value in node.outputs:
            follows = is_elementwise(node) and len(read) == 1
            keys[value] = next(iter(read)) if follows else key_of(value)
    return keys


def _tensors(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the inputs of `node` that are not one constant number."""
    return (value for value in node.inputs if value is not None and scalar_of(value) is None)


def _is_usable(node: ir.Node, keys: dict[ir.Value, _Key]) -> bool:
    if not is_elementwise(node):
        return False
    known = (*_STORAGES, ir.DataType.BOOL)
    if any(value.dtype not in known for value in (*_tensors(node), *node.outputs)):
        return False
    whole = keys[node.outputs[0]]
    if any(_extent(keys[value], whole) is None for value in _tensors(node)):
        return False
    builder = BodyBuilder([])
    values = {value: builder.number(number) for number, value in enumerate(node.inputs) if value}
    try:
        translate(builder, node, _operands(node, values))
    except UntranslatableError:
        return False
    return True


def _operands(node: ir.Node, values: dict[ir.Value, int]) -> list[Operand]:
    given = [value for value in node.inputs if value is not None]
    numbers = [scalar_of(value) for value in given]
    return [
        values[value] if number is None else number
        for value, number in zip(given, numbers, strict=True)
    ]


def _extent(key: _Key, whole: _Key) -> Extent | None:
    """Return how a value of shape `key` lies along one of shape `whole`; None: not known."""
    if key == whole:
        return "full"
    if "the shape of" in (*key[:1], *whole[:1]) or len(key) > len(whole):
        return None
    ours = (*[1] * (len(whole) - len(key)), *key)
    if any(size not in (1, of) for size, of in zip(ours, whole, strict=True)):
        return None
    along = [size for size, of in zip(ours, whole, strict=True) if of != 1]
    return "moves" if along and along[-1] != 1 else "stays"


def _group(
    graph: ir.Graph, usable: set[ir.Node], keys: dict[ir.Value, _Key]
) -> list[list[ir.Node]]:
    """Return groups of nodes in the order of the graph: each as large as can be."""
    groups: list[list[ir.Node]] = []
    owner: dict[ir.Node, list[ir.Node]] = {}
    for node in reversed(list(graph)):
        if node not in usable:
            continue
        value = node.outputs[0]
        owners = [owner.get(use.node) for use in value.uses()]
        group = owners[0] if owners else None
        inside = group is not None and all(other is group for other in owners)
        if group and inside and not value.is_graph_output() and keys[value] == _key(group, keys):
            group.insert(0, node)
        elif value.dtype in _STORAGES:
            group = [node]
            groups.append(group)
        else:
            continue
        owner[node] = group
    return groups


def _key(group: list[ir.Node], keys: dict[ir.Value, _Key]) -> _Key:
    return keys[group[-1].outputs[0]]


def _reads_outside(node: ir.Node, group: Sequence[ir.Node]) -> bool:
    """Return whether `node` reads booleans that are not made within its group."""
    booleans = (value for value in _tensors(node) if value.dtype == ir.DataType.BOOL)
    return any(value.producer() not in group for value in booleans)


def _make_chain(nodes: Sequence[ir.Node], keys: dict[ir.Value, _Key]) -> Chain | None:
    """Return the chain of `nodes`; None where none of its inputs has the shape of its result."""
    whole, result = keys[nodes[-1].outputs[0]], nodes[-1].outputs[0]
    read = (value for node in nodes for value in _tensors(node) if value.producer() not in nodes)
    extents = {value: _extent(keys[value], whole) for value in read}
    inputs = sorted(extents, key=lambda value: extents[value] != "full")
    if not inputs or extents[inputs[0]] != "full" or len(inputs) > MOST_INPUTS:
        return None
    builder = BodyBuilder([_input(value, extents[value]) for value in inputs])
    values = {value: place for place, value in enumerate(inputs)}
    for node in nodes:
        found = _mish(node, nodes)
        if found is not None and found.x in values:
            values[node.outputs[0]] = builder.apply("mish", values[found.x])
        else:
            values[node.outputs[0]] = translate(builder, node, _operands(node, values))
    assert result.dtype is not None  # checked with the node that makes it
    try:
        body = builder.finish(values[result], _STORAGES[result.dtype])
    except BackendError:  # too long, or no step at all
        return None
    return Chain(tuple(nodes), tuple(inputs), body)


def _input(value: ir.Value, extent: Extent | None) -> Input:
    assert extent is not None
    assert value.dtype is not None  # both were checked with the node that reads it
    return Input(extent, _STORAGES[value.dtype])


def _mish(node: ir.Node, nodes: Sequence[ir.Node]) -> Mish | None:
    """Return the Mish whose result `node` gives, if it lies within `nodes`."""
    try:
        found = match(node) or match_form(node)
    except PassRefusedError:
        return None
    if found is None:
        return None
    own = (inner for inner in found.nodes if is_elementwise(inner))
    return found if all(inner in nodes for inner in own) else None

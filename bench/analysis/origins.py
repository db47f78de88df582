"""Which modules of a network the nodes of a rewritten graph stand for.

Whoever rewrites a graph, a pass or a runtime, fuses nodes and puts new ones in. Names of values
outlive that better than those of nodes: what a fused node gives is what its last node gave.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from foldbench.bench.host_files.marks import ON_BLOCKS

Modules = tuple[str, ...]
"""Names of modules; the first is the one that computes the value, others were fused into it."""

PUT_IN = frozenset(
    {"ReorderInput", "ReorderOutput", "Transpose", "Cast", "MemcpyToHost", "MemcpyFromHost"}
)
"""Operators that onnxruntime puts in for itself: copies, casts and changes of layout."""


@dataclass(frozen=True)
class GraphNode:
    """One node of a graph: its names, and those of the values that it reads and gives."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """What one node of a rewritten graph stands for."""

    modules: Modules
    is_put_in: bool = False
    """Whether the graph before had no such node."""


def trace_origins(
    before: Sequence[GraphNode], owners: Mapping[str, Modules], after: Sequence[GraphNode]
) -> list[Origin]:
    """Return for each node of `after` the modules of the nodes of `before` that it stands for.

    `owners` are the modules of each value of `before`. A node that gives a value of `before` stands
    for the nodes behind it, up to values that `after` has too; any other one belongs to the first
    such value that it leads to. No modules where there is none.
    """
    makers = {value: node for node in before for value in node.outputs}
    readers: dict[str, list[GraphNode]] = {}
    for node in after:
        for read in node.inputs:
            readers.setdefault(read, []).append(node)
    given = [_given_value(node, owners) for node in after]
    kept = {name for name in given if name is not None}
    found = []
    for node, own in zip(after, given, strict=True):
        anchor = own if own is not None else _led_to(node, readers, owners)
        if anchor is None:
            found.append(Origin((), node.operator in PUT_IN))
            continue
        made = makers.get(anchor)
        if node.operator in PUT_IN and (made is None or made.operator != node.operator):
            found.append(Origin(owners[anchor][:1], is_put_in=True))
        elif own is None:
            found.append(Origin(owners[anchor][:1]))
        else:
            behind = _behind(anchor, makers, kept)
            modules = [m for name in behind for m in owners.get(name, ())]
            found.append(Origin(tuple(dict.fromkeys(modules))))
    return found


def _given_value(node: GraphNode, owners: Mapping[str, Modules]) -> str | None:
    """Return the value of the graph before that the node gives; None for none."""
    texts = (*node.outputs, node.name)
    names = (
        *node.outputs,
        *(text[: text.rindex(ON_BLOCKS)] for text in texts if ON_BLOCKS in text),
    )
    return next((name for name in names if name in owners), None)


def _led_to(
    node: GraphNode, readers: Mapping[str, Sequence[GraphNode]], owners: Mapping[str, Modules]
) -> str | None:
    """Return the first value of the graph before that what the node gives leads to."""
    waiting, seen = [node], {id(node)}
    while waiting:
        here = waiting.pop(0)
        for reader in (r for value in here.outputs for r in readers.get(value, ())):
            found = _given_value(reader, owners)
            if found is not None:
                return found
            if id(reader) not in seen:
                seen.add(id(reader))
                waiting.append(reader)
    return None


def _behind(anchor: str, makers: Mapping[str, GraphNode], kept: set[str]) -> Iterator[str]:
    """Yield `anchor` and the values that it is made from, up to those that are kept."""
    waiting, seen = [anchor], {anchor}
    while waiting:
        value = waiting.pop()
        yield value
        made = makers.get(value)
        for name in made.inputs if made is not None else ():
            if name in makers and name not in kept and name not in seen:
                seen.add(name)
                waiting.append(name)

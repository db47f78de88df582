"""Merge operators that only move numbers into one that copies rows; for this machine.

Window attention rolls an image (slices and concatenations), cuts it into windows (reshape,
transpose, reshape), and puts it together again; channels are shuffled, patches are merged. Each
step goes over memory in one thread. Whatever such a chain is, it becomes one Gather of rows that
stay together, which onnxruntime spreads over threads. Steps that change nothing are removed.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx import ModelProto

from foldbench.bench.records import PassReport, Target
from foldbench.exporters.passes._graphs.movement import Ints, Movements, changes_order, moves, trace
from foldbench.exporters.passes._graphs.optimised import rewrite_unoptimised
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    add_constant,
    is_op,
)

ERROR_BOUND = 0.0
TARGETS = ("host",)
ONLY_FOR: Target | None = "host"

LEAST_ROW = 16
"""Numbers that stay together, below which a Gather is slower than what it replaces."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with movements merged; the copy is exact where there are none.

    Raises what onnxruntime raises on a model that it cannot run.
    """
    merging = _Merging()
    return rewrite_unoptimised(
        model, "merge_moves", "movements to merge", merging.tell, merging.edit
    )


class _Merging:
    """Merges one movement after the other, and tells what it did."""

    def __init__(self) -> None:
        self._movements: Movements | None = None
        self._merged = 0

    def tell(self) -> str:
        """Return what was done, after how often."""
        return f"movements, of {self._merged} operators, as copies of rows"

    def edit(self, model: ir.Model, node: ir.Node) -> bool:
        """Merge what ends with `node`, and tell whether that was something."""
        if not moves(node) or node.graph is not model.graph:
            return False
        self._movements = self._movements or Movements(model)
        return sum([self._merge(model.graph, value) for value in node.outputs if _ends(value)]) > 0

    def _merge(self, graph: ir.Graph, value: ir.Value) -> bool:
        assert self._movements is not None  # edit made them
        way = trace(value)
        nodes = tuple(filter(changes_order, way[2])) if way else ()
        if not _gains(nodes):
            return False
        movement = self._movements.read(value)
        shapes = [self._movements.shape(value, count) for count in self._movements.counts]
        first, *rest = shapes[0] or (0,)
        if not movement.index.size or shapes[1:] not in ([], [(2 * first, *rest)]):
            raise PassRefusedError("the batch is not the first dimension of what comes out")
        row = _row(movement.index)
        rows = movement.index.reshape(-1, row)[:, 0] // row
        count = movement.size // row
        unchanged = len(rows) == count and np.array_equal(rows, np.arange(count))
        if not unchanged and row < LEAST_ROW:
            raise PassRefusedError(f"rows of {row} numbers are too short to gain")

        def constant(what: str, numbers: list[int] | Ints) -> ir.Value:
            return add_constant(graph, f"{value.name}_{what}", np.asarray(numbers, np.int64))

        tape = ir.tape.Tape()
        moved = movement.source
        if not unchanged:
            flat = constant("rows", [-1, count, row])
            moved = tape.op("Reshape", [moved, flat])
            moved = tape.op("Gather", [moved, constant("order", rows)], attributes={"axis": 1})
        tape.op("Reshape", [moved, constant("shape", [-1, *rest])])
        for number, made in enumerate(node.outputs[0] for node in tape.nodes):
            made.name = f"{value.name}_moved_{number}"
        self._movements.replace(value, tape.nodes)
        self._merged += len(nodes)
        return True


def _ends(value: ir.Value) -> bool:
    """Return whether something else than a further movement reads `value`, which is no output."""
    if value.is_graph_output():
        return False
    return any(
        not moves(use.node) or (use.idx > 0 and not is_op(use.node, "Concat"))
        for use in value.uses()
    )


def _gains(nodes: Sequence[ir.Node]) -> bool:
    """Return whether a movement of `nodes` may be worth merging: slices alone are fast already."""
    whole = any(is_op(node, "Transpose", "Pad") for node in nodes)
    return whole or (len(nodes) > 1 and any(is_op(node, "Concat", "Gather") for node in nodes))


def _row(index: Ints) -> int:
    """Return how many numbers stay together: the most, in rows that begin at multiples of that."""
    flat = index.ravel()
    starts = np.flatnonzero(np.diff(flat) != 1) + 1
    lengths = np.diff(np.concatenate(([0], starts, [len(flat)])))
    return int(np.gcd.reduce(np.concatenate((lengths, flat[np.concatenate(([0], starts))]))))

"""Which nodes are in int8, chosen by what that does to the answers on images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isnan, log2

from onnx import ModelProto, NodeProto
from onnxruntime.quantization import TensorsData

from foldbench.bench import units
from foldbench.bench.errors import ExportError
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Closeness, Method, NodeChoice, RangeTrial
from foldbench.exporters.quantization.calibration import METHODS, LabelledImages, measure_ranges
from foldbench.exporters.quantization.graph import (
    COMPUTING,
    count_weights,
    find_candidates,
    quantize_nodes,
)
from foldbench.exporters.quantization.score import ClosenessScorer, keeps_budget

SENSITIVITY_IMAGES = 512
"""So many images of the validation set decide the nodes' order. They are enough
for a divergence, which every image adds to; an accuracy needs them all."""


@dataclass(frozen=True)
class QuantizationChoice:
    """What was decided, and what that followed from."""

    model: ModelProto
    method: Method
    trials: tuple[RangeTrial, ...]
    nodes: tuple[NodeChoice, ...]


class QuantizationSearch:
    """One search: how ranges are found, and, if not all nodes can be in int8, which are."""

    def __init__(
        self,
        model: ModelProto,
        calibration: LabelledImages,
        scorer: ClosenessScorer,
        max_drop_points: float,
        listener: ProgressListener,
    ) -> None:
        """Take `model`, which tells the shape of every tensor; ExportError without candidates."""
        self._model, self._calibration, self._scorer = model, calibration, scorer
        self._max_drop_points, self._listener = max_drop_points, listener
        self._candidates = find_candidates(model)
        if not self._candidates:
            raise ExportError(
                f"nothing can be quantized: the graph has no {', '.join(COMPUTING)} in float32 "
                "with constant weights; export it without --quantize"
            )
        self._done = 0

    def choose(self) -> QuantizationChoice:
        """Return the choice: all nodes where that keeps the budget, else the least sensitive ones.

        Where not even one node can be had within the budget, all are taken, so that the file shows
        by how much it exceeds it.
        """
        self._listener.begin("quantizing", len(METHODS))
        trials: list[RangeTrial] = []
        ranges: dict[Method, TensorsData] = {}
        everything = [node.name for node in self._candidates]
        for method in METHODS:
            ranges[method] = measure_ranges(self._model, self._calibration, method)
            model = quantize_nodes(self._model, ranges[method], everything)
            trials.append(RangeTrial(method=method, closeness=self._scorer.score(model)))
            self._tell(f"ranges by {method}", trials[-1].closeness)
        best = min(trials, key=lambda trial: _order(trial.closeness))
        alone: dict[str, Closeness] = {}
        names, count, exceeding = everything, len(everything), best.closeness
        if not self._keeps(best.closeness):
            self._listener.end("not all nodes keep the limit")
            self._done, steps = 0, ceil(log2(len(everything) + 1))
            self._listener.begin("choosing nodes", len(everything) + steps)
            alone = {node.name: self._alone(node, ranges[best.method]) for node in self._candidates}
            names = sorted(everything, key=lambda name: _order(alone[name]))
            count, exceeding = self._count(names, ranges[best.method], best.closeness)
        self._listener.end()
        return QuantizationChoice(
            model=quantize_nodes(self._model, ranges[best.method], names[: count or None]),
            method=best.method,
            trials=tuple(trials),
            nodes=tuple(
                NodeChoice(
                    node=node.name,
                    op_type=node.op_type,
                    weights=count_weights(self._model, node),
                    alone=alone.get(node.name),
                    quantized=count == 0 or names.index(node.name) < count,
                    reason=_reason(names.index(node.name), count, names, exceeding),
                )
                for node in self._candidates
            ),
        )

    def _alone(self, node: NodeProto, ranges: TensorsData) -> Closeness:
        model = quantize_nodes(self._model, ranges, [node.name])
        closeness = self._scorer.score(model, SENSITIVITY_IMAGES)
        self._tell(f"{node.name} alone", closeness)
        return closeness

    def _count(
        self, names: Sequence[str], ranges: TensorsData, together: Closeness
    ) -> tuple[int, Closeness]:
        """Return how many of `names`, least sensitive first, keep the budget, by bisection.

        `together` is what all of them do, which does not keep it. Also what one more would do.
        """
        low, high, exceeding = 0, len(names), together
        while high - low > 1:
            middle = (low + high) // 2
            found = self._scorer.score(quantize_nodes(self._model, ranges, names[:middle]))
            self._tell(f"{middle} of {len(names)} nodes", found)
            if self._keeps(found):
                low = middle
            else:
                high, exceeding = middle, found
        return low, exceeding

    def _keeps(self, closeness: Closeness) -> bool:
        return keeps_budget(closeness, self._max_drop_points)

    def _tell(self, what: str, closeness: Closeness) -> None:
        self._done += 1
        change = f"accuracy {units.points(-closeness.drop_points() / 100)} points"
        self._listener.advance(self._done, f"{what}: {change}, KL {units.error(closeness.kl_nats)}")


def _order(closeness: Closeness) -> float:
    """Return what graphs are ordered by; outputs that are no numbers come last."""
    return inf if isnan(closeness.kl_nats) else closeness.kl_nats


def _reason(rank: int, count: int, names: Sequence[str], exceeding: Closeness) -> str:
    """Return why the node at `rank` of `names` is in int8 or not."""
    if count == len(names):
        return "all together keep the budget"
    if count == 0:
        return "no node keeps the budget: all are in int8 to show by how much"
    if rank < count:
        return f"one of the {count} least sensitive, which together keep the budget"
    if rank == count:
        return (
            f"with it accuracy would be {units.percent(exceeding.drop_points() / 100)} points lower"
        )
    return f"more sensitive than {names[count]}, with which the budget is exceeded"

"""The way from an image file to its class, stage by stage."""

from collections.abc import Callable, Sequence
from itertools import cycle, pairwise
from typing import Any

from foldbench.bench.machine.interference import measure_between, read_counters
from foldbench.bench.samples.calling import StageBlock
from foldbench.bench.timing.loop import BlockOptions, Clock, no_garbage_collection

Step = Callable[[Any], Any]
"""One stage: takes what the one before gives; the first takes the input."""


def time_stages(
    steps: Sequence[Step], inputs: Sequence[Any], options: BlockOptions, clock: Clock
) -> StageBlock:
    """Time whole ways through all `steps` over rotating `inputs`, after untimed ones.

    One reading of the clock ends a stage and begins the next, so that they sum up to the whole.
    """
    rotation = cycle(inputs)
    parts: list[list[float]] = [[] for _ in steps]
    samples: list[float] = []
    with no_garbage_collection():
        until, settled = clock() + options.settle_s, 0
        while settled < 2 or clock() < until:
            _go(steps, next(rotation), clock)
            settled += 1
        before, elapsed_s = read_counters(), 0.0
        while len(samples) < options.calls or elapsed_s < options.block_s:
            moments = _go(steps, next(rotation), clock)
            for part, (begun, ended) in zip(parts, pairwise(moments), strict=True):
                part.append(ended - begun)
            samples.append(moments[-1] - moments[0])
            elapsed_s += samples[-1]
        watched = vars(measure_between(before, read_counters()))
    return StageBlock(samples_s=tuple(samples), parts_s=tuple(map(tuple, parts)), **watched)


def _go(steps: Sequence[Step], value: Any, clock: Clock) -> list[float]:
    """Return the moment of the beginning and of each stage's end."""
    moments = [clock()]
    for step in steps:
        value = step(value)
        moments.append(clock())
    return moments

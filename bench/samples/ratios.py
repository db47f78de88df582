"""Ratios of blocks that took turns, process by process: what every estimate begins with."""

from collections.abc import Mapping, Sequence
from math import log
from statistics import median

import numpy as np

from foldbench.bench.samples.timing import Block, clean_pairs

Process = tuple[int, int, int]
"""Session, repetition and generation: each has new processes."""

MIN_REPETITIONS = 3
"""From which on an interval is from between repetitions."""


def process_of(block: Block) -> Process:
    """Return which processes timed the round of a block."""
    return block.session, block.repeat, block.process


def logs_by_process(
    blocks: Sequence[Block], reference: Sequence[Block]
) -> dict[Process, list[float]]:
    """Return, for each process, the logarithm of the speed-up in each of its clean rounds."""
    mine, theirs = clean_pairs(blocks, reference)
    processes = {block.round: process_of(block) for block in blocks if block.round in mine}
    found: dict[Process, list[float]] = {}
    for number, samples in mine.items():
        here, there = median(samples), median(theirs[number])
        if here > 0 and there > 0:
            found.setdefault(processes[number], []).append(log(there / here))
    return found


def is_repeated(logs: Mapping[Process, Sequence[float]]) -> bool:
    """Return whether there are repetitions enough for an interval from between them."""
    return len({repeat for _, repeat, _ in logs}) >= MIN_REPETITIONS


def independent_logs(logs: Mapping[Process, Sequence[float]]) -> list[float]:
    """Return the median of each process; the means of these by repetition where they are enough."""
    repetitions: dict[int, list[float]] = {}
    for (_, repeat, _), values in logs.items():
        repetitions.setdefault(repeat, []).append(median(values))
    if is_repeated(logs):
        return [float(np.mean(values)) for values in repetitions.values()]
    return [value for values in repetitions.values() for value in values]

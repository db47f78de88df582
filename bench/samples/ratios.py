"""Ratios of blocks that took turns, process by process: what every estimate begins with."""

from collections.abc import Mapping, Sequence
from math import log
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from foldbench.bench.samples.timing import Block, clean_pairs

Process = tuple[int, int, int]
"""Session, repetition and generation: each has new processes."""

Part = tuple[float, float]
"""A variance of a mean, and its degrees of freedom."""

MIN_REPETITIONS = 3
"""From which on an interval is from between repetitions."""
ASSUMED_SD = 0.025
"""Of the logarithm of a speed-up on the CPU of a virtual machine. Three minutes later added 0.2 to
5 %, in root mean square 2.9 % (`python -m benchmarks.variance`, batch 1); elsewhere nothing is
assumed."""
ASSUMED_FREEDOM = 4.0
"""How many degrees of freedom the assumption weighs as: it was measured on one host."""


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


def assumed_sd(environment: Mapping[str, Any], device: str | None) -> float:
    """Return what comparisons on a machine are assumed to differ by until several are known."""
    return ASSUMED_SD if environment.get("virtual_machine") is True and device == "cpu" else 0.0


def combined(parts: Sequence[Part]) -> Part:
    """Return the variance of a sum and its degrees of freedom (B. L. Welch, 1947).

    Source: The generalization of 'Student's' problem, Biometrika 34.
    """
    total = sum(variance for variance, _ in parts)
    weighed = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = total**2 / weighed if weighed > 0 else sum(freedom for _, freedom in parts)
    return total, freedom


def variance_of_mean(values: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Return the variance of the mean of independent `values`, two at the least."""
    return float(np.var(values, ddof=1)) / len(values)

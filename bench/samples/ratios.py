"""Ratios of blocks that took turns, process by process: what every estimate begins with."""

from collections.abc import Sequence
from math import log

import numpy as np

from foldbench.bench.samples.timing import Block, clean_pairs

Process = tuple[int, int, int]
"""Session, repetition and generation: each has new processes."""


def process_of(block: Block) -> Process:
    """Return which processes timed the round of a block."""
    return block.session, block.repeat, block.process


def logs_by_process(blocks: Sequence[Block], reference: Sequence[Block]) -> list[list[float]]:
    """Return, for each process, the logarithm of the speed-up in each of its clean rounds."""
    mine, theirs = clean_pairs(blocks, reference)
    processes = {block.round: process_of(block) for block in blocks if block.round in mine}
    found: dict[Process, list[float]] = {}
    for number, samples in mine.items():
        here, there = float(np.median(samples)), float(np.median(theirs[number]))
        if here > 0 and there > 0:
            found.setdefault(processes[number], []).append(log(there / here))
    return list(found.values())

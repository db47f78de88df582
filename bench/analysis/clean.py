"""Which rounds of a timing count: those in which nothing else kept the threads waiting."""

from collections.abc import Mapping

from foldbench.bench.analysis.estimates import (
    median_or_none,
)
from foldbench.bench.records import Block, Timing
from foldbench.bench.samples.timing import DIRTY_RUN_DELAY as DIRTY_RUN_DELAY
from foldbench.bench.samples.timing import clean_pairs as clean_pairs
from foldbench.bench.samples.timing import is_clean as is_clean

SamplesByRound = Mapping[int, tuple[float, ...]]
"""Round -> seconds of its calls."""


def round_ratios(timing: Timing, reference: Timing | None) -> list[float]:
    """Return how long a call took here for each second there, of every clean round."""
    candidate, baseline = clean_pairs(timing.blocks, reference.blocks if reference else ())
    medians = [(median_or_none(candidate[r]), median_or_none(baseline[r])) for r in candidate]
    return [here / there for here, there in medians if here and there]


def clean_blocks(timing: Timing) -> tuple[Block, ...]:
    """Return the blocks in which nothing else ran; all of them when there are none such."""
    clean = tuple(block for block in timing.blocks if is_clean(block.run_delay_ratio))
    return clean or timing.blocks


def block_medians(timing: Timing) -> list[float]:
    """Return the median of each of the `clean_blocks`, seconds, in the order of the rounds."""
    blocks = sorted(clean_blocks(timing), key=lambda block: block.round)
    medians = (median_or_none(block.samples_s) for block in blocks)
    return [value for value in medians if value is not None]


def count_rounds(timing: Timing) -> int:
    """Return how many rounds were made; one that was timed again is one round."""
    return len({block.round for block in timing.blocks})


def count_clean_rounds(timing: Timing) -> int:
    """Return in how many rounds a block was left alone, at the first attempt or a later one."""
    return len({b.round for b in timing.blocks if is_clean(b.run_delay_ratio)})

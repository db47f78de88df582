"""What rounds cost, and how far blocks are shortened so that enough rounds fit the budget.

A speed-up takes MIN_CLEAN_ROUNDS rounds, however long their blocks: more rounds of shorter blocks
tell more than fewer of long ones.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from foldbench.bench.analysis.estimates import MIN_CLEAN_ROUNDS
from foldbench.bench.records import Shortage
from foldbench.bench.timing.loop import SYNCHRONIZE_CHECKS, BlockOptions, WarmUp
from foldbench.bench.timing.schedule import RoundPlan

SHORTEST_CALLS = 5
"""Of a block: two outliers do not move their median."""
SHORTEST_BLOCK_S = 0.04
FEW_PROCESSES = 4
FEW_SHARE, STARTS_SHARE = 1 / 2, 1 / 3
"""Of the budget, at the most, that new processes and their warm-up may take, up to FEW_PROCESSES
and beyond: without rounds enough there is no ratio at all."""
SLACK = 2.0
"""Blocks are shortened until the rounds take the budget divided by this: on a shared machine every
other round may be disturbed and made again."""


def plan_processes(asked: int, start_s: float, budget_s: float) -> int:
    """Return how many processes of each contender the budget carries, one at the least.

    `start_s` is what new ones of all contenders take until they are warm; the first are free.
    """
    if start_s <= 0:
        return asked
    few, many = (1 + int(share * budget_s / start_s) for share in (FEW_SHARE, STARTS_SHARE))
    return min(asked, max(min(few, FEW_PROCESSES), many))


def round_duration_s(warm_ups: Sequence[WarmUp], options: BlockOptions) -> float:
    """Return the seconds of one round, a block for each warm-up, as the warm-ups tell."""
    return sum(_block_duration_s(warm, options) for warm in warm_ups)


def find_shortage(
    warm_ups: Sequence[WarmUp], options: BlockOptions, plan: RoundPlan
) -> Shortage | None:
    """Return by how much blocks must be shortened, None where enough rounds fit as they are.

    Blocks are halved until MIN_CLEAN_ROUNDS rounds (or the fewer that are wanted) fit with SLACK,
    down to SHORTEST_CALLS and SHORTEST_BLOCK_S, or what `options` has where that is less.
    """
    rounds = min(MIN_CLEAN_ROUNDS, plan.rounds)
    chosen, needed_s = options, rounds * round_duration_s(warm_ups, options)
    while SLACK * needed_s > plan.budget_s and (shorter := _halve(chosen)) != chosen:
        chosen, needed_s = shorter, rounds * round_duration_s(warm_ups, shorter)
    if chosen == options and needed_s <= plan.budget_s:
        return None
    return Shortage(
        rounds=rounds,
        needed_s=needed_s,
        budget_s=plan.budget_s,
        calls=chosen.calls,
        block_s=chosen.block_s,
    )


def shorten(options: BlockOptions, shortage: Shortage | None) -> BlockOptions:
    """Return the options of blocks as shortened."""
    if shortage is None:
        return options
    return replace(options, calls=shortage.calls, block_s=shortage.block_s)


def _halve(options: BlockOptions) -> BlockOptions:
    return replace(
        options,
        calls=max(options.calls // 2, min(options.calls, SHORTEST_CALLS)),
        block_s=max(options.block_s / 2, min(options.block_s, SHORTEST_BLOCK_S)),
    )


def _block_duration_s(warm: WarmUp, options: BlockOptions) -> float:
    """Return the seconds of one block, its untimed calls included: see `bench.timing.loop`."""
    settle_s = max(2 * warm.turn_s, options.settle_s)
    lasting = ceil(options.block_s / warm.call_s) if warm.call_s > 0 else 0
    checks = SYNCHRONIZE_CHECKS if options.boundary == "device" else 0
    return settle_s + (1 + max(options.calls, lasting) + checks) * warm.turn_s

"""Rounds until enough of them are clean: who is timed when, and when to stop.

Knows nothing of processes or networks: it is handed a function that times one contender, and a
clock, so that every path can be tested.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from foldbench.bench.samples.timing import Block, StopReason, clean_pairs, is_clean

TRIES = 6
"""Blocks of one contender in one round, when one after the other is dirty."""

TimeOne = Callable[[str, int], Block | None]
"""Times contender `name` in round `number`; None when it failed and is out."""


@dataclass(frozen=True)
class RoundPlan:
    """How long to go on."""

    rounds: int
    """Clean rounds wanted for each contender together with the reference."""
    budget_s: float


@dataclass
class MeasuredRounds:
    """What the rounds of one batch size gave."""

    blocks: dict[str, list[Block]] = field(default_factory=dict)
    stopped: StopReason = "rounds"


def run_rounds(
    names: Sequence[str],
    reference: Callable[[str], str | None],
    time_one: TimeOne,
    plan: RoundPlan,
    order: random.Random,
    clock: Callable[[], float],
    earlier: Mapping[str, Sequence[Block]] | None = None,
) -> MeasuredRounds:
    """Time all `names` in rounds of random order until the plan is met.

    Blocks of `earlier`, by name, count as made: of an interrupted comparison that goes on.

    `reference` names the contender that a speed-up is against, None where there is none. A round
    counts for a contender when both its block and its reference's are clean; contenders that have
    enough of them are left out of further rounds, unless they are still needed as reference.
    """
    result = MeasuredRounds({name: list((earlier or {}).get(name, ())) for name in names})
    alive, started, number = list(names), clock(), 0

    def is_spent() -> bool:
        return clock() - started >= plan.budget_s

    while alive:
        due = _still_due(alive, reference, result.blocks, plan)
        if not due:
            break
        if number and is_spent():
            result.stopped = "budget"
            break
        number += 1
        for name in order.sample(due, len(due)):
            if not _time_until_clean(name, number, time_one, result.blocks[name], is_spent):
                alive.remove(name)
                del result.blocks[name]
    return result


def _time_until_clean(
    name: str,
    number: int,
    time_one: TimeOne,
    blocks: list[Block],
    is_spent: Callable[[], bool],
) -> bool:
    """Time one contender in one round, again at once while its block is dirty.

    A neighbour that comes and goes leaves quiet moments: waiting for one keeps the blocks of a
    round close together. Return False when the contender failed.
    """
    for attempt in range(TRIES):
        if attempt and is_spent():
            return True
        block = time_one(name, number)
        if block is None:
            return False
        blocks.append(block)
        if is_clean(block.run_delay_ratio):
            return True
    return True


def _still_due(
    alive: Sequence[str],
    reference: Callable[[str], str | None],
    blocks: Mapping[str, Sequence[Block]],
    plan: RoundPlan,
) -> list[str]:
    """Return the contenders of the next round; none when the plan is met."""
    lacking = [name for name in alive if count_clean(name, reference, blocks) < plan.rounds]
    needed = {reference(name) for name in lacking} | set(lacking)
    return [name for name in alive if name in needed]


def count_clean(
    name: str, reference: Callable[[str], str | None], blocks: Mapping[str, Sequence[Block]]
) -> int:
    """Return in how many rounds both a contender and what it is held against were left alone."""
    other = reference(name)
    baseline = blocks.get(other, blocks[name]) if other else blocks[name]
    return len(clean_pairs(blocks[name], baseline)[0])

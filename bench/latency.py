"""The rounds of a comparison: every contender in turn, at every batch size, until it is known."""

import random
import time
from collections.abc import Callable, Sequence

from bench.config import CompareSection
from bench.contenders import Contender, failures_of, original_of
from bench.progress import Listener
from bench.records import Block
from bench.schedule import Plan, run_rounds
from bench.timing import BlockOptions


def measure_latency(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: Listener,
    repeat: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Time the contenders that are still in; their `times` and failures are noted in them.

    `repeat` is the number of this repetition, which has its share of the budget. What one batch
    size leaves of that goes to the next.
    """
    order = random.Random(f"{settings.seed}/{repeat}")
    left_s = settings.budget_s / settings.repeat
    for number, batch_size in enumerate(settings.batch_sizes):
        for contender in _alive(contenders):
            _warm_up(contender, batch_size, settings)
        started = clock()
        share_s = left_s / (len(settings.batch_sizes) - number)
        plan = Plan(settings.rounds, share_s, settings.interval)
        _time_rounds(contenders, batch_size, repeat, plan, settings, order, listener, clock)
        left_s -= clock() - started


def _time_rounds(
    contenders: Sequence[Contender],
    batch_size: int,
    repeat: int,
    plan: Plan,
    settings: CompareSection,
    order: random.Random,
    listener: Listener,
    clock: Callable[[], float],
) -> None:
    alive = {contender.name: contender for contender in _alive(contenders)}
    options = BlockOptions(settings.calls, settings.block_s, settings.settle_s)
    first = 1 + max((t.last_round(batch_size) for t in (c.times for c in contenders)), default=0)
    again = f", repetition {repeat}" if settings.repeat > 1 else ""
    listener.begin(f"latency at batch {batch_size}{again}", plan.rounds)

    def time_one(name: str, number: int) -> Block | None:
        listener.advance(min(number - 1, plan.rounds), f"round {number}, {name}")
        return _time_block(alive[name], batch_size, options, first + number - 1, repeat)

    rounds = run_rounds(
        list(alive),
        {name: _name_of(original_of(c, list(alive.values()))) for name, c in alive.items()}.get,
        time_one,
        plan,
        order,
        clock,
    )
    listener.end()
    for name, blocks in rounds.blocks.items():
        alive[name].times.add(batch_size, blocks, rounds.stopped)


def _time_block(
    contender: Contender, batch_size: int, options: BlockOptions, number: int, repeat: int
) -> Block | None:
    """Return one block, or None when the contender failed and is out."""
    with failures_of(contender):
        timed = contender.hired().time(batch_size, options)
        contender.times.count_untimed(batch_size, timed.settle_calls)
        seen = timed.interference
        return Block(
            round=number,
            repeat=repeat,
            samples_s=timed.samples_s,
            run_delay_ratio=seen.run_delay_ratio,
            cpu_ratio=seen.cpu_ratio,
            pressure_ratio=seen.pressure_ratio,
            steal_ratio=seen.steal_ratio,
        )
    return None


def _warm_up(contender: Contender, batch_size: int, settings: CompareSection) -> None:
    with failures_of(contender):
        warm = contender.hired().warm_up(batch_size, settings.warm_up_s)
        contender.times.begin(batch_size, warm)


def _name_of(contender: Contender | None) -> str | None:
    return contender.name if contender else None


def _alive(contenders: Sequence[Contender]) -> list[Contender]:
    return [contender for contender in contenders if contender.status == "ok"]

"""The rounds of a comparison: every contender in turn, at every batch size, until it is known.

Each device has rounds of its own, since nothing is held against another device; what runs on a GPU
has further ones within the boundary ``device``.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from foldbench.bench import units
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.budget import find_shortage, shorten
from foldbench.bench.measure.running import (
    Contender,
    end_series,
    failures_of,
    original_of,
    shorten_series,
)
from foldbench.bench.measure.schedule import RoundPlan, run_rounds
from foldbench.bench.measure.series import MeasurementSeries
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Block, Boundary, Shortage
from foldbench.bench.timing.loop import BlockOptions


@dataclass(frozen=True)
class _Repetition:
    """One repetition of the rounds: what all of its series have in common."""

    number: int
    settings: CompareSection
    order: random.Random
    listener: ProgressListener
    clock: Callable[[], float]


def measure_latency(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    repeat: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Time the contenders that are still in; their results and failures are noted in them.

    Rounds that an interrupted comparison made are in the results already; what is missing is made.
    `repeat` is the number of this repetition, which has its share of each device's budget.
    """
    order = random.Random(f"{settings.seed}/{repeat}")
    repetition = _Repetition(repeat, settings, order, listener, clock)
    alive = [contender for contender in contenders if contender.is_ok]
    for contender in alive:
        refused = contender.spec.refuse_batches(*settings.batch_sizes)
        contender.result.reason = refused or contender.result.reason
    for device in dict.fromkeys(contender.actual_device for contender in alive):
        on_device = [contender for contender in alive if contender.actual_device == device]
        _measure_device(on_device, repetition)


def _measure_device(contenders: Sequence[Contender], repetition: _Repetition) -> None:
    """Time what runs on one device; what a series of rounds leaves of the budget is the next's."""
    settings, number, clock = repetition.settings, repetition.number, repetition.clock
    left_s = settings.budget_s / settings.repeat
    left_s -= sum(contender.result.times.spent_s.get(number, 0.0) for contender in contenders)
    all_series = _list_series(contenders, settings)
    for done, series in enumerate(all_series):
        takers = _takers(contenders, series, settings)
        if any((series, number) in contender.result.times.ended for contender in takers):
            continue
        for contender in takers:
            _warm_up(contender, series, settings)
        started = clock()
        share_s = max(0.0, left_s) / (
            len(all_series) - done
        )  # a round may take more than its share
        plan = RoundPlan(settings.rounds, share_s, settings.interval)
        _time_rounds(contenders, series, plan, repetition)
        left_s -= clock() - started


def _list_series(
    contenders: Sequence[Contender], settings: CompareSection
) -> list[MeasurementSeries]:
    boundaries: list[Boundary] = ["host"]
    if settings.boundaries == "auto" and any(c.is_resident() for c in contenders):
        boundaries.append("device")
    return [
        MeasurementSeries(size, boundary)
        for size in settings.batch_sizes
        for boundary in boundaries
    ]


def _time_rounds(
    contenders: Sequence[Contender],
    series: MeasurementSeries,
    plan: RoundPlan,
    repetition: _Repetition,
) -> None:
    settings, listener, repeat = repetition.settings, repetition.listener, repetition.number
    alive = {c.label: c for c in _takers(contenders, series, settings)}
    if not alive:
        return
    times = {name: c.result.times for name, c in alive.items()}
    last = max((c.result.times.last_round(series) for c in contenders), default=0)
    where = f"{series} on {contenders[0].actual_device}"
    options = BlockOptions(settings.calls, settings.block_s, settings.settle_s, series.boundary)
    if last == 0:  # a later repetition goes on with the same blocks, to be pooled with these
        warm_ups = [one.warm_ups[series] for one in times.values()]
        shortage = find_shortage(warm_ups, options, plan)
        if shortage is not None:
            listener.note(f"{where}: {_describe(shortage)}")
            shorten_series(list(alive.values()), series, shortage)
    shortages = (one.shortages.get(series) for one in times.values())
    options = shorten(options, next(filter(None, shortages), None))
    again = f", repetition {repeat}" if settings.repeat > 1 else ""
    listener.begin(f"latency at {where}{again}", plan.rounds)

    def time_one(name: str, number: int) -> Block | None:
        listener.advance(min(number - 1, plan.rounds), f"round {number}, {name}")
        return _time_block(alive[name], series, options, last + number, repeat)

    rounds = run_rounds(
        list(alive),
        {name: _label_of(original_of(c, list(alive.values()))) for name, c in alive.items()}.get,
        time_one,
        plan,
        repetition.order,
        repetition.clock,
        {name: one.of_repeat(series, repeat) for name, one in times.items()},
    )
    listener.end()
    end_series([alive[name] for name in rounds.blocks], series, repeat, rounds.stopped)


def _describe(shortage: Shortage) -> str:
    if shortage.needed_s > shortage.budget_s:
        return (
            f"{shortage.rounds} rounds need about {units.duration(shortage.needed_s)}, their "
            "share of the "
            f"budget is {units.duration(shortage.budget_s)}: raise --budget, or there is no "
            "speed-up"
        )
    return (
        f"blocks shortened to {shortage.calls} calls and {units.duration(shortage.block_s)}, so "
        "that "
        f"{shortage.rounds} rounds fit their share of the budget, "
        f"{units.duration(shortage.budget_s)}"
    )


def _time_block(
    contender: Contender, series: MeasurementSeries, options: BlockOptions, number: int, repeat: int
) -> Block | None:
    """Return one block, or None when the contender failed and is out."""
    timed = None
    with failures_of(contender, series.boundary):
        timed = contender.require_worker().time(series.batch_size, options)
    if timed is None:
        return None
    block = replace(timed[0], round=number, repeat=repeat, session=contender.session)
    contender.add_block(series, block, settle_calls=timed[1])
    return block


def _warm_up(contender: Contender, series: MeasurementSeries, settings: CompareSection) -> None:
    warm = None
    with failures_of(contender, series.boundary):
        worker = contender.require_worker()
        warm = worker.warm_up(series.batch_size, settings.warm_up_s, series.boundary)
    if warm is not None:
        contender.add_warm_up(series, warm)


def _label_of(contender: Contender | None) -> str | None:
    return contender.label if contender else None


def _takers(
    contenders: Sequence[Contender], series: MeasurementSeries, settings: CompareSection
) -> list[Contender]:
    smallest = min(settings.batch_sizes)
    return [contender for contender in contenders if contender.takes_part(series, smallest)]

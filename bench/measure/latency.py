"""The rounds of a comparison: every contender in turn, at every batch size, until it is known.

Each device has rounds of its own, since nothing is held against another device; what runs on a GPU
has further ones within the boundary ``device``.
"""

import random
import time
from collections.abc import Callable, Sequence

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.budget import find_shortage, shorten
from foldbench.bench.measure.contenders import (
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


def measure_latency(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    repeat: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Time the contenders that are still in; their `times` and failures are noted in them.

    Rounds that an interrupted comparison made are in `times` already; what is missing is made.
    `repeat` is the number of this repetition, which has its share of each device's budget.
    """
    order = random.Random(f"{settings.seed}/{repeat}")
    alive = [contender for contender in contenders if contender.status == "ok"]
    for device in dict.fromkeys(contender.actual_device for contender in alive):
        on_device = [contender for contender in alive if contender.actual_device == device]
        _measure_device(on_device, settings, order, listener, repeat, clock)


def _measure_device(
    contenders: Sequence[Contender],
    settings: CompareSection,
    order: random.Random,
    listener: ProgressListener,
    repeat: int,
    clock: Callable[[], float],
) -> None:
    """Time what runs on one device; what a series of rounds leaves of the budget is the next's."""
    left_s = settings.budget_s / settings.repeat
    left_s -= sum(contender.times.spent_s.get(repeat, 0.0) for contender in contenders)
    all_series = _list_series(contenders, settings)
    for number, series in enumerate(all_series):
        takers = _takers(contenders, series, settings)
        if any((series, repeat) in contender.times.ended for contender in takers):
            continue
        for contender in takers:
            _warm_up(contender, series, settings)
        started = clock()
        share_s = left_s / (len(all_series) - number)
        plan = RoundPlan(settings.rounds, share_s, settings.interval)
        _time_rounds(contenders, series, repeat, plan, settings, order, listener, clock)
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
    repeat: int,
    plan: RoundPlan,
    settings: CompareSection,
    order: random.Random,
    listener: ProgressListener,
    clock: Callable[[], float],
) -> None:
    alive = {c.name: c for c in _takers(contenders, series, settings)}
    options = BlockOptions(settings.calls, settings.block_s, settings.settle_s, series.boundary)
    first = 1 + max((t.last_round(series) for t in (c.times for c in contenders)), default=0)
    where = f"{series} on {contenders[0].actual_device}"
    if first == 1:  # a later repetition goes on with the same blocks, to be pooled with these
        _note_shortage(list(alive.values()), series, where, options, plan, listener)
    shortages = (c.times.shortages.get(series) for c in alive.values())
    options = shorten(options, next(filter(None, shortages), None))
    again = f", repetition {repeat}" if settings.repeat > 1 else ""
    listener.begin(f"latency at {where}{again}", plan.rounds)

    def time_one(name: str, number: int) -> Block | None:
        listener.advance(min(number - 1, plan.rounds), f"round {number}, {name}")
        return _time_block(alive[name], series, options, first + number - 1, repeat)

    rounds = run_rounds(
        list(alive),
        {name: _name_of(original_of(c, list(alive.values()))) for name, c in alive.items()}.get,
        time_one,
        plan,
        order,
        clock,
        {name: c.times.of_repeat(series, repeat) for name, c in alive.items()},
    )
    listener.end()
    end_series([alive[name] for name in rounds.blocks], series, repeat, rounds.stopped)


def _note_shortage(
    contenders: Sequence[Contender],
    series: MeasurementSeries,
    where: str,
    options: BlockOptions,
    plan: RoundPlan,
    listener: ProgressListener,
) -> None:
    """Note in every contender, and say, what has to be done for enough rounds to fit the budget."""
    warm_ups = [contender.times.warm_ups[series] for contender in contenders]
    shortage = find_shortage(warm_ups, options, plan)
    if shortage is None:
        return
    listener.note(f"{where}: {_describe(shortage)}")
    shorten_series(contenders, series, shortage)


def _describe(shortage: Shortage) -> str:
    if shortage.needed_s > shortage.budget_s:
        return (
            f"{shortage.rounds} rounds need about {shortage.needed_s:.3g} s, their share of the "
            f"budget is {shortage.budget_s:.3g} s: raise --budget, or there is no speed-up"
        )
    return (
        f"blocks shortened to {shortage.calls} calls and {shortage.block_s * 1000:.0f} ms, so that "
        f"{shortage.rounds} rounds fit their share of the budget, {shortage.budget_s:.3g} s"
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
    seen = timed.interference
    block = Block(
        round=number,
        repeat=repeat,
        session=contender.session,
        samples_s=timed.samples_s,
        run_delay_ratio=seen.run_delay_ratio,
        cpu_ratio=seen.cpu_ratio,
        pressure_ratio=seen.pressure_ratio,
        steal_ratio=seen.steal_ratio,
        clocks=timed.clocks,
    )
    contender.add_block(series, block, timed.settle_calls)
    return block


def _warm_up(contender: Contender, series: MeasurementSeries, settings: CompareSection) -> None:
    warm = None
    with failures_of(contender, series.boundary):
        worker = contender.require_worker()
        warm = worker.warm_up(series.batch_size, settings.warm_up_s, series.boundary)
    if warm is not None:
        contender.add_warm_up(series, warm)


def _name_of(contender: Contender | None) -> str | None:
    return contender.name if contender else None


def _takers(
    contenders: Sequence[Contender], series: MeasurementSeries, settings: CompareSection
) -> list[Contender]:
    smallest = min(settings.batch_sizes)
    return [contender for contender in contenders if contender.takes_part(series, smallest)]

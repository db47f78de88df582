"""The rounds of a comparison: every contender in turn, at every batch size, until it is known.

Each device has rounds of its own, since nothing is held against another device; what runs on a GPU
has further ones within the boundary ``device``.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from foldbench.bench import units
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.budget import find_shortage, plan_processes, shorten
from foldbench.bench.measure.running import (
    Contender,
    end_series,
    failures_of,
    original_of,
    shorten_series,
)
from foldbench.bench.measure.series import Generation, MeasurementSeries
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Block, Boundary, Shortage
from foldbench.bench.samples.timing import MIN_PROCESSES
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.timing.schedule import RoundPlan, count_clean, run_rounds

Restart = Callable[[Sequence[Contender]], None]
"""Gives contenders new processes that have opened their networks."""


@dataclass(frozen=True)
class _Repetition:
    """One repetition of the rounds: what all of its series have in common."""

    number: int
    settings: CompareSection
    order: random.Random
    listener: ProgressListener
    clock: Callable[[], float]
    restart: Restart | None
    lanes: int


@dataclass(frozen=True)
class _Generation:
    """One generation of processes, and what its rounds may take."""

    key: Generation
    left: int
    """Generations that are still to come, this one included."""
    count: int
    budget_s: float
    is_first: bool
    """Whether its processes are those that accuracy was taken with: their warm-up is free."""


def measure_latency(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    repeat: int = 1,
    clock: Callable[[], float] = time.monotonic,
    restart: Restart | None = None,
    lanes: int = 1,
) -> None:
    """Time the contenders that are still in; their results and failures are noted in them.

    Rounds that an interrupted comparison made are in the results already; what is missing is made.
    `repeat` is the number of this repetition, which has its share of each device's budget. Without
    `restart` all rounds are made by the processes that there are; `lanes` is how many of them it
    starts at a time.
    """
    order = random.Random(f"{settings.seed}/{repeat}")
    repetition = _Repetition(repeat, settings, order, listener, clock, restart, lanes)
    alive = [contender for contender in contenders if contender.is_ok]
    for contender in alive:
        refused = contender.spec.refuse_batches(*settings.batch_sizes)
        contender.result.reason = refused or contender.result.reason
    for device in dict.fromkeys(contender.actual_device for contender in alive):
        on_device = [contender for contender in alive if contender.actual_device == device]
        _measure_device(on_device, repetition)


def _measure_device(contenders: Sequence[Contender], repetition: _Repetition) -> None:
    """Time what runs on one device, by one generation of processes after the other.

    What a series of rounds leaves of the budget is the next's. Starts and the warm-up of all but
    the first generation are paid from it.
    """
    settings, number, clock = repetition.settings, repetition.number, repetition.clock
    left_s = settings.budget_s / settings.repeat
    left_s -= sum(contender.result.times.spent_s.get(number, 0.0) for contender in contenders)
    series = _list_series(contenders, settings)
    start_s = _start_duration_s(contenders, series, settings, repetition.lanes)
    count = _count_processes(contenders, start_s, left_s, repetition)
    is_first = True
    for process in range(1, count + 1):
        key = Generation(number, process)
        due = [one for one in series if not _has_ended(contenders, one, key, settings)]
        if not due:
            continue
        if not is_first and left_s < start_s:
            for one in due:
                end_series(_takers(contenders, one, settings), one, key, "budget")
            continue
        started = clock()
        if not is_first and repetition.restart is not None:
            repetition.restart([contender for contender in contenders if contender.is_ok])
        left_s -= clock() - started
        left = count - process + 1
        rounds_s = max(0.0, left_s - (left - 1) * start_s)
        generation = _Generation(key, left, count, rounds_s, is_first)
        left_s -= _measure_generation(contenders, due, generation, repetition)
        is_first = False


def _start_duration_s(
    contenders: Sequence[Contender],
    series: Sequence[MeasurementSeries],
    settings: CompareSection,
    lanes: int,
) -> float:
    """Return the seconds until new processes of all contenders are warm, going by the first.

    Calls settle after about twice the least duration of a warm-up.
    """
    least_s = (
        len(_takers(contenders, one, settings)) * _least_warm_up_s(number, settings)
        for number, one in enumerate(series)
    )
    load_s, open_s = sum(c.load_s for c in contenders), sum(c.open_s for c in contenders)
    return load_s / lanes + open_s + 2 * sum(least_s)


def _least_warm_up_s(number: int, settings: CompareSection) -> float:
    """Return the least duration of a new process's warm-up for its series `number`, from 0.

    The first generation has warmed up the machine, and the first series the process. Calls go on
    until their times settle, as in the first generation, and each block has untimed ones before it.
    """
    half_s = settings.warm_up_s / 2
    return half_s if number == 0 else min(half_s, settings.settle_s)


def _count_processes(
    contenders: Sequence[Contender], start_s: float, budget_s: float, repetition: _Repetition
) -> int:
    """Return how many generations there are: as many as asked for, or as the budget carries."""
    settings = repetition.settings
    if repetition.restart is None:
        return 1
    asked = min(settings.processes, settings.rounds)
    count = plan_processes(asked, start_s, budget_s)
    count = max([count, *(c.result.times.last_process(repetition.number) for c in contenders)])
    if count < min(asked, MIN_PROCESSES):
        repetition.listener.note(
            f"{contenders[0].actual_device}: {units.count(count)} of {units.count(asked)} "
            f"processes of each contender, since new ones take about {units.duration(start_s)} and "
            f"the budget is {units.duration(budget_s)}: raise --budget"
        )
    return count


def _has_ended(
    contenders: Sequence[Contender],
    series: MeasurementSeries,
    key: Generation,
    settings: CompareSection,
) -> bool:
    takers = _takers(contenders, series, settings)
    return any((series, key) in contender.result.times.ended for contender in takers)


def _measure_generation(
    contenders: Sequence[Contender],
    all_series: Sequence[MeasurementSeries],
    generation: _Generation,
    repetition: _Repetition,
) -> float:
    """Time the rounds that are due; return the seconds of the budget that they took."""
    settings, clock = repetition.settings, repetition.clock
    taken_s, left_s = 0.0, generation.budget_s / generation.left
    for done, series in enumerate(all_series):
        started = clock()
        least_s = settings.warm_up_s if generation.is_first else _least_warm_up_s(done, settings)
        for contender in _takers(contenders, series, settings):
            _warm_up(contender, series, least_s)
        if not generation.is_first:
            taken_s += clock() - started
        started = clock()
        # a round may take more than its share
        share_s = max(0.0, left_s) / (len(all_series) - done)
        _time_rounds(contenders, series, share_s, generation, repetition)
        left_s -= clock() - started
        taken_s += clock() - started
    return taken_s


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
    share_s: float,
    generation: _Generation,
    repetition: _Repetition,
) -> None:
    settings, listener, key = repetition.settings, repetition.listener, generation.key
    alive = {c.label: c for c in _takers(contenders, series, settings)}
    if not alive:
        return
    times = {name: c.result.times for name, c in alive.items()}
    reference = {
        name: _label_of(original_of(c, list(alive.values()))) for name, c in alive.items()
    }.get
    last = max((c.result.times.last_round(series) for c in contenders), default=0)
    where = f"{series} on {contenders[0].actual_device}"
    options = BlockOptions(settings.calls, settings.block_s, settings.settle_s, series.boundary)
    if last == 0:  # later generations go on with the same blocks, to be pooled with these
        warm_ups = [one.warm_ups[series] for one in times.values()]
        whole = RoundPlan(settings.rounds, share_s * generation.left)
        shortage = find_shortage(warm_ups, options, whole)
        if shortage is not None:
            listener.note(f"{where}: {_describe(shortage)}")
            shorten_series(list(alive.values()), series, shortage)
    shortages = (one.shortages.get(series) for one in times.values())
    options = shorten(options, next(filter(None, shortages), None))
    made = {name: one.of_repeat(series, key.repeat) for name, one in times.items()}
    here = {name: one.of_generation(series, key) for name, one in times.items()}
    before = {name: [b for b in made[name] if b.process != key.process] for name in made}
    lacking = settings.rounds - min(count_clean(name, reference, before) for name in before)
    plan = RoundPlan(max(1, ceil(lacking / generation.left)), share_s)
    listener.begin(f"latency at {where}{_named(generation, settings)}", plan.rounds)

    def time_one(name: str, number: int) -> Block | None:
        listener.advance(min(number - 1, plan.rounds), f"round {number}, {name}")
        return _time_block(alive[name], series, options, last + number, key)

    rounds = run_rounds(
        list(alive), reference, time_one, plan, repetition.order, repetition.clock, here
    )
    listener.end()
    end_series([alive[name] for name in rounds.blocks], series, key, rounds.stopped)


def _named(generation: _Generation, settings: CompareSection) -> str:
    """Return which generation it is, as the end of a sentence; empty for the only one."""
    repeat, process = generation.key
    again = f", repetition {repeat}" if settings.repeat > 1 else ""
    return again + (f", process {process} of {generation.count}" if generation.count > 1 else "")


def _describe(shortage: Shortage) -> str:
    if shortage.needed_s > shortage.budget_s:
        return (
            f"{shortage.rounds} rounds need about {units.duration(shortage.needed_s)}, their "
            "share of the "
            f"budget is {units.duration(shortage.budget_s)}: raise --budget, or there may be no "
            "speed-up"
        )
    return (
        f"blocks shortened to {shortage.calls} calls and {units.duration(shortage.block_s)}, so "
        "that "
        f"{shortage.rounds} rounds fit their share of the budget, "
        f"{units.duration(shortage.budget_s)}"
    )


def _time_block(
    contender: Contender,
    series: MeasurementSeries,
    options: BlockOptions,
    number: int,
    key: Generation,
) -> Block | None:
    """Return one block, or None when the contender failed and is out."""
    timed = None
    with failures_of(contender, series.boundary):
        timed = contender.require_worker().time(series.batch_size, options)
    if timed is None:
        return None
    block = replace(timed[0], round=number, session=contender.session, **key._asdict())
    contender.add_block(series, block, settle_calls=timed[1])
    return block


def _warm_up(contender: Contender, series: MeasurementSeries, least_s: float) -> None:
    warm = None
    with failures_of(contender, series.boundary):
        worker = contender.require_worker()
        warm = worker.warm_up(series.batch_size, least_s, series.boundary)
    if warm is not None:
        contender.add_warm_up(series, warm)


def _label_of(contender: Contender | None) -> str | None:
    return contender.label if contender else None


def _takers(
    contenders: Sequence[Contender], series: MeasurementSeries, settings: CompareSection
) -> list[Contender]:
    smallest = min(settings.batch_sizes)
    return [contender for contender in contenders if contender.takes_part(series, smallest)]

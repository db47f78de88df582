"""The one timing loop, the same for every backend, within one of two boundaries.

``host``: host array in, host array out. ``device``: the network alone, on an input that lies in the
memory of the device and with an output that stays there. The clock is handed in, so that the loop
can be tested with one whose every move is known.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from statistics import median
from typing import Literal

from foldbench.bench import units
from foldbench.bench.backends import Floats, Resident, Session
from foldbench.bench.errors import BackendError
from foldbench.bench.machine.clocks import ClockReading, ReadClocks, clocks_between, read_nothing
from foldbench.bench.machine.interference import measure_between, read_counters
from foldbench.bench.samples.calling import PausedBlock
from foldbench.bench.samples.timing import Block, Boundary, Tuning
from foldbench.bench.timing.pauses import Pauses, cache_filler

Clock = Callable[[], float]
"""Returns seconds, from any origin."""
InPauses = Literal["rest", "untimed calls", "empty caches"]
"""What is done in the pauses before timed calls."""
_REST_S = 0.1
"""Longest pause before the clocks are read: a processor has slowed down by then."""


@dataclass(frozen=True)
class BlockOptions:
    """How long a block of timed calls is."""

    calls: int
    """Least number of timed calls."""
    block_s: float
    """Least duration of the timed calls, seconds."""
    settle_s: float
    """Untimed calls before them, seconds; at least three are made."""
    boundary: Boundary = "host"
    pause_s: float | None = None
    """Pause before each timed call, seconds; None for calls back to back, uncounted."""
    in_pauses: InPauses = "rest"


def call(session: Session, x: Floats) -> Floats:
    """Bring `x` (N, C, H, W) to the device, run, and return the logits (N, classes) on the host."""
    session.bind(x)
    session.step()
    session.synchronize()
    return session.output()


def time_call(session: Session, x: Floats, clock: Clock) -> tuple[float, Floats]:
    """Return the seconds of one call, begun with an idle device, and its logits."""
    session.synchronize()
    started = clock()
    output = call(session, x)
    return clock() - started, output


def time_resident_call(session: Session, x: Floats, clock: Clock) -> tuple[float, Floats]:
    """Return the seconds of one step on an input that is on the device, and its logits.

    Bringing `x` there, before, and the logits back, after, are not in the time.
    """
    _place(session, x)
    session.synchronize()
    started = clock()
    session.step()
    session.synchronize()
    seconds = clock() - started
    return seconds, session.output()


def _place(session: Session, x: Floats) -> None:
    if not isinstance(session, Resident):
        raise BackendError("it has no way to keep its input and output on the device")
    session.place(x)


_TIME_ONE: Mapping[Boundary, Callable[[Session, Floats, Clock], tuple[float, Floats]]] = {
    "host": time_call,
    "device": time_resident_call,
}

_LEFT_OVER_RATIO = 0.2
_LEFT_OVER_S = 20e-6
SYNCHRONIZE_CHECKS = 3
"""Further calls with which `check_synchronized` looks for one that was not waited for."""


def check_synchronized(session: Session, x: Floats, clock: Clock) -> None:
    """Raise BackendError when the device works on after synchronize() has returned.

    Then fetching the output has to wait for it, and takes longer than fetching it once more. What
    is left over must be under 20 % of the time that was measured, or under 20 µs, in the best of
    three tries. Within the boundary ``host`` that cannot go wrong: the output itself is waited for.
    """
    tries = []
    for _ in range(SYNCHRONIZE_CHECKS):
        _place(session, x)
        session.synchronize()
        moments = [clock()]
        for act in (session.step, session.synchronize, session.output, session.output):
            act()
            moments.append(clock())
        started, _, synchronized, fetched, fetched_again = moments
        left_s = (fetched - synchronized) - (fetched_again - fetched)
        tries.append((left_s, synchronized - started))
    left_s, measured_s = min(tries)
    if left_s > max(_LEFT_OVER_RATIO * measured_s, _LEFT_OVER_S):
        raise BackendError(
            f"the device went on working for {units.duration(left_s)} after synchronize() had "
            f"returned: the {units.duration(measured_s)} until then are not its time"
        )


@dataclass(frozen=True)
class WarmUp:
    """The untimed calls before the first round."""

    first_call_s: float
    calls: int
    converged: bool
    """Whether the medians of the last three chunks of calls agreed within STEADY_WITHIN."""
    call_s: float
    """Median of the last calls, seconds."""
    turn_s: float
    """From one such call to the next, seconds: with the transfers that the boundary leaves out."""
    tuning: Tuning | None = None
    """What a session that tunes itself chose after them."""


CONVERGED_WITHIN = 0.05
_SLOW_CALL_S = 0.02
_MAX_WARM_UP_FACTOR = 6
"""How many times its least duration a warm-up may last while times have not settled."""


def warm_up(
    session: Session,
    batches: Sequence[Floats],
    least_s: float,
    clock: Clock,
    boundary: Boundary = "host",
) -> WarmUp:
    """Call over rotating `batches` until the times settle.

    At least `least_s` seconds, at most six times as long, after the first call, which may have to
    compile or to load what the others then have. The times have settled when the medians
    of three consecutive chunks (ten calls, or fewer when a call takes long) agree within 5 %.
    """
    rotation, time_one = cycle(batches), _TIME_ONE[boundary]
    first_call_s, _ = time_one(session, next(rotation), clock)
    started = clock()
    samples: list[float] = []
    while True:
        samples.append(time_one(session, next(rotation), clock)[0])
        elapsed_s = clock() - started
        converged = _has_converged(samples)
        if (elapsed_s >= least_s and converged) or elapsed_s >= _MAX_WARM_UP_FACTOR * least_s:
            call_s, timed_s = median(samples[-10:]), sum(samples)
            turn_s = call_s * elapsed_s / timed_s if timed_s > 0 else call_s
            return WarmUp(first_call_s, 1 + len(samples), converged, call_s, turn_s)


def _has_converged(samples: Sequence[float]) -> bool:
    size = 10 if samples[-1] < _SLOW_CALL_S else 3
    if len(samples) < 3 * size:
        return False
    medians = [median(samples[len(samples) - k * size :][:size]) for k in (3, 2, 1)]
    return max(medians) <= (1 + CONVERGED_WITHIN) * min(medians)


@dataclass(frozen=True)
class TimedCalls:
    """What one block gave."""

    settle_calls: int
    block: Block
    batch: int
    """Index of the batch of the last timed call."""
    output: Floats
    """Logits of that call, so that the caller can check what was really computed."""


def time_block(
    session: Session,
    batches: Sequence[Floats],
    options: BlockOptions,
    clock: Clock,
    read_clocks: ReadClocks = read_nothing,
    sleep: Callable[[float], None] = time.sleep,
) -> TimedCalls:
    """Time consecutive calls over rotating `batches`, after untimed ones."""
    rotation, time_one = cycle(range(len(batches))), _TIME_ONE[options.boundary]
    samples: list[float] = []
    pauses = _pauses(session, batches[0], options, clock, sleep)
    with no_garbage_collection():
        rest = partial(pauses.wait, min(options.pause_s or 0.0, _REST_S)) if pauses else None
        settled, clocks = _settle(session, batches, rotation, options, clock, read_clocks, rest)
        before = read_counters()
        elapsed = 0.0
        while len(samples) < options.calls or elapsed < options.block_s:
            index = next(rotation)
            if pauses:
                pauses.before_call()
            seconds, output = time_one(session, batches[index], clock)
            if pauses:
                pauses.after_call()
            samples.append(seconds)
            elapsed += seconds
        after = read_counters()
        seen = clocks_between(clocks, read_clocks())
    watched = vars(measure_between(before, after))
    if options.pause_s:  # threads that wake up wait for one another: that says nothing of others
        watched["run_delay_ratio"] = None
    block = Block(samples_s=tuple(samples), clocks=seen, **watched)
    if pauses:
        block = PausedBlock(**vars(block), costs=pauses.costs())
    return TimedCalls(settled, block, index, output)


def _pauses(
    session: Session,
    x: Floats,
    options: BlockOptions,
    clock: Clock,
    sleep: Callable[[float], None],
) -> Pauses | None:
    if options.pause_s is None:
        return None
    keep_warm = partial(call, session, x) if options.in_pauses == "untimed calls" else None
    empty_caches = cache_filler() if options.in_pauses == "empty caches" else None
    return Pauses(options.pause_s, keep_warm, empty_caches, clock, sleep)


def _settle(
    session: Session,
    batches: Sequence[Floats],
    rotation: Iterator[int],
    options: BlockOptions,
    clock: Clock,
    read_clocks: ReadClocks,
    rest: Callable[[], None] | None,
) -> tuple[int, ClockReading]:
    """Make the untimed calls; return their number, and the clocks before the last of them.

    That last one comes after the reading, which lets a processor rest for a moment. `rest` is
    made before the reading.
    """
    time_one, started, calls = _TIME_ONE[options.boundary], clock(), 0
    while calls < 2 or clock() - started < options.settle_s:
        time_one(session, batches[next(rotation)], clock)
        calls += 1
    if rest:
        rest()
    clocks = read_clocks()
    time_one(session, batches[next(rotation)], clock)
    return calls + 1, clocks


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now and not again until the block ends."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

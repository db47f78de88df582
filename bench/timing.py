"""The one timing loop: host array in, host array out, the same for every backend.

The clock is handed in, so that the loop can be tested with one whose every move is known.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from statistics import median

from bench.backends import Floats, Session
from bench.interference import Interference, measure_between, read_counters
from bench.records_machine import Tuning

Clock = Callable[[], float]
"""Returns seconds, from any origin."""


@dataclass(frozen=True)
class BlockOptions:
    """How long a block of timed calls is."""

    calls: int
    """Least number of timed calls."""
    block_s: float
    """Least duration of the timed calls, seconds."""
    settle_s: float
    """Untimed calls before them, seconds; at least three are made."""


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


@dataclass(frozen=True)
class WarmUp:
    """The untimed calls before the first round."""

    first_call_s: float
    calls: int
    steady: bool
    """Whether the medians of the last three chunks of calls agreed within STEADY_WITHIN."""
    tuning: Tuning | None = None
    """What a session that tunes itself chose after them."""


STEADY_WITHIN = 0.05
_SLOW_CALL_S = 0.02
_PATIENCE = 6


def warm_up(session: Session, batches: Sequence[Floats], least_s: float, clock: Clock) -> WarmUp:
    """Call over rotating `batches` until the times settle.

    At least `least_s` seconds, at most six times as long, after the first call, which may have to
    compile or to load what the others then have. The times have settled when the medians
    of three consecutive chunks (ten calls, or fewer when a call takes long) agree within 5 %.
    """
    rotation = cycle(batches)
    first_call_s, _ = time_call(session, next(rotation), clock)
    started = clock()
    samples: list[float] = []
    while True:
        samples.append(time_call(session, next(rotation), clock)[0])
        elapsed_s = clock() - started
        steady = _is_steady(samples)
        if (elapsed_s >= least_s and steady) or elapsed_s >= _PATIENCE * least_s:
            return WarmUp(first_call_s, 1 + len(samples), steady)


def _is_steady(samples: Sequence[float]) -> bool:
    size = 10 if samples[-1] < _SLOW_CALL_S else 3
    if len(samples) < 3 * size:
        return False
    medians = [median(samples[len(samples) - k * size :][:size]) for k in (3, 2, 1)]
    return max(medians) <= (1 + STEADY_WITHIN) * min(medians)


@dataclass(frozen=True)
class TimedCalls:
    """What one block gave."""

    settle_calls: int
    samples_s: tuple[float, ...]
    interference: Interference
    """What else ran during the timed calls."""
    batch: int
    """Index of the batch of the last timed call."""
    output: Floats
    """Logits of that call, so that the caller can check what was really computed."""


def time_block(
    session: Session, batches: Sequence[Floats], options: BlockOptions, clock: Clock
) -> TimedCalls:
    """Time consecutive calls over rotating `batches`, after untimed ones."""
    rotation = cycle(range(len(batches)))
    settled = _settle(session, batches, rotation, options, clock)
    samples: list[float] = []
    with _no_garbage_collection():
        before = read_counters()
        elapsed = 0.0
        while len(samples) < options.calls or elapsed < options.block_s:
            index = next(rotation)
            seconds, output = time_call(session, batches[index], clock)
            samples.append(seconds)
            elapsed += seconds
        after = read_counters()
    return TimedCalls(settled, tuple(samples), measure_between(before, after), index, output)


def _settle(
    session: Session,
    batches: Sequence[Floats],
    rotation: Iterator[int],
    options: BlockOptions,
    clock: Clock,
) -> int:
    started, calls = clock(), 0
    while calls < 3 or clock() - started < options.settle_s:
        call(session, batches[next(rotation)])
        calls += 1
    return calls


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

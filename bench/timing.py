"""The one timing loop: host array in, host array out, the same for every backend.

The clock is handed in, so that the loop can be tested with one whose every move is known.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle

from bench.backends import Floats, Session

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


def time_block(
    session: Session, batches: Sequence[Floats], options: BlockOptions, clock: Clock
) -> tuple[int, list[float], tuple[int, Floats]]:
    """Time consecutive calls over rotating `batches`, after untimed ones.

    Return the number of untimed calls, the seconds of each timed one, and the last timed output
    with the index of its batch, so that the caller can check what was really computed.
    """
    rotation = cycle(range(len(batches)))
    settled = _settle(session, batches, rotation, options, clock)
    samples: list[float] = []
    with _no_garbage_collection():
        elapsed = 0.0
        while len(samples) < options.calls or elapsed < options.block_s:
            index = next(rotation)
            seconds, output = time_call(session, batches[index], clock)
            samples.append(seconds)
            elapsed += seconds
    return settled, samples, (index, output)


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

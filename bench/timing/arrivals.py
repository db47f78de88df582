"""An open loop: images arrive when they are due, whether or not the ones before are answered.

A closed loop asks again only once it has its answer. While the server stalls it asks nothing, so
the calls that users would have made meanwhile are never seen, and a stall of a second is one slow
call (G. Tene, How not to measure latency: coordinated omission). Here every latency counts from the
moment that the image was due, and one thread does it all: what has arrived is what is due by now.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from foldbench.bench.backends import Floats, Session
from foldbench.bench.timing.loop import Clock, call, no_garbage_collection

_SPIN_S = 1e-3
"""Before an arrival, the time that is not slept: a sleep ends late."""


@dataclass(frozen=True)
class LoadOptions:
    """How a server would answer."""

    most: int = 1
    """Largest batch that images are put together to."""
    wait_s: float = 0.0
    """How long an image may wait for others to fill its batch."""
    give_up_s: float = 10.0
    """Ends the test when an answer is this late: the load is far too high."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Return the sizes that occur: powers of two and the largest, few enough to be warmed."""
        powers = (2**k for k in range(self.most.bit_length()))
        return tuple(sorted({*powers, self.most}))


def poisson(rate_per_s: float, count: int, seed: int) -> tuple[float, ...]:
    """Return the times at which `count` images are due, seconds from the beginning, in order.

    The gaps between them are exponential: arrivals that know nothing of one another.
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, count)
    return tuple(np.cumsum(gaps).tolist())


def scaled_to(times_s: Sequence[float], rate_per_s: float) -> tuple[float, ...]:
    """Return arrivals of a recording, stretched so that they come at a mean rate."""
    first, last = times_s[0], times_s[-1]
    factor = (len(times_s) - 1) / (last - first) / rate_per_s
    return tuple((time_s - first) * factor for time_s in times_s)


@dataclass(frozen=True)
class Served:
    """What came of one test."""

    latencies_s: tuple[float, ...]
    calls: int
    duration_s: float
    unanswered: int
    outputs: tuple[tuple[int, int, Floats], ...]
    """Some outputs: index of the first image's input, number of images, logits."""


def serve(
    session: Session,
    inputs: Floats,
    arrivals_s: Sequence[float],
    options: LoadOptions,
    clock: Clock,
    sleep: Callable[[float], None],
) -> Served:
    """Answer images as they arrive, in batches of what is due.

    Image n has the input ``n mod len(inputs)``; there are at least `options.most` inputs,
    (N, C, H, W) float32. A batch is begun when it is full, or when its first image has waited
    `options.wait_s`; its size is the largest of `options.batch_sizes` that has arrived.
    """
    latencies: list[float] = []
    outputs: list[tuple[int, int, Floats]] = []
    calls, done = 0, 0
    with no_garbage_collection():
        started = clock()
        while done < len(arrivals_s):
            _wait_until(started + _due(arrivals_s, done, options), clock, sleep)
            now_s = clock() - started
            size = _batch(arrivals_s, done, now_s, options)
            first = done % (len(inputs) - size + 1)
            output = call(session, inputs[first : first + size])
            ended_s = clock() - started
            latencies += [ended_s - due_s for due_s in arrivals_s[done : done + size]]
            calls, done = calls + 1, done + size
            if calls % 32 == 1:
                outputs.append((first, size, output.copy()))
            if latencies[-size] > options.give_up_s:
                break
        duration_s = clock() - started
    unanswered = len(arrivals_s) - done
    return Served(tuple(latencies), calls, duration_s, unanswered, tuple(outputs))


def _due(arrivals_s: Sequence[float], done: int, options: LoadOptions) -> float:
    """Return when the next batch is to begin, at the latest."""
    last = done + options.most - 1
    waited_s = arrivals_s[done] + options.wait_s
    return min(waited_s, arrivals_s[last]) if last < len(arrivals_s) else waited_s


def _wait_until(due_s: float, clock: Clock, sleep: Callable[[float], None]) -> None:
    left_s = due_s - clock()
    if left_s > _SPIN_S:
        sleep(left_s - _SPIN_S)
    while clock() < due_s:
        sleep(0.0)


def _batch(arrivals_s: Sequence[float], done: int, now_s: float, options: LoadOptions) -> int:
    """Return how many of the images that have arrived are computed at once."""
    arrived = 1
    while (
        arrived < options.most
        and done + arrived < len(arrivals_s)
        and arrivals_s[done + arrived] <= now_s
    ):
        arrived += 1
    return max(size for size in options.batch_sizes if size <= arrived)

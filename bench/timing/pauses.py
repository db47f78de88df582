"""Pauses before timed calls, and what the calls cost besides their time.

A network that is called back to back finds its threads awake, its weights in the caches and the
processor at its full clock. After a pause it may find none of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from foldbench.bench.machine.cpu import last_cache_bytes
from foldbench.bench.samples.calling import KEEP_WARM_S, CallCosts

Clock = Callable[[], float]


@dataclass(frozen=True)
class Usage:
    """Running totals of this process at one moment."""

    cpu_s: float
    switches: int
    preemptions: int
    minor_faults: int
    major_faults: int


def read_usage() -> Usage | None:
    """Return the totals of all threads; None on a system without getrusage."""
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(
        cpu_s=used.ru_utime + used.ru_stime,
        switches=used.ru_nvcsw,
        preemptions=used.ru_nivcsw,
        minor_faults=used.ru_minflt,
        major_faults=used.ru_majflt,
    )


class Pauses:
    """Waits before each call of a block, and counts what pauses and calls cost.

    `keep_warm` is made during the pause, untimed, every KEEP_WARM_S; None for no such calls.
    `empty_caches` is made at the end of the pause, in whose time it counts; None for none.
    """

    def __init__(
        self,
        pause_s: float,
        keep_warm: Callable[[], object] | None = None,
        empty_caches: Callable[[], object] | None = None,
        clock: Clock = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        read: Callable[[], Usage | None] = read_usage,
    ) -> None:
        self._pause_s = pause_s
        self._keep_warm = keep_warm
        self._empty_caches = empty_caches
        self._clock, self._sleep, self._read = clock, sleep, read
        self._before: Usage | None = None
        self._paused_s = 0.0
        self._in_pauses: list[tuple[Usage, Usage]] = []
        self._in_calls: list[tuple[Usage, Usage]] = []

    def before_call(self) -> None:
        """Wait as long as asked; the call has to follow at once."""
        begun, started = self._read(), self._clock()
        self.wait(self._pause_s)
        self._paused_s += self._clock() - started
        self._before = self._read()
        if begun and self._before:
            self._in_pauses.append((begun, self._before))

    def wait(self, pause_s: float) -> None:
        """Wait once, uncounted."""
        until = self._clock() + pause_s
        while self._keep_warm and self._clock() + KEEP_WARM_S < until:
            self._sleep(KEEP_WARM_S)
            self._keep_warm()
        left_s = until - self._clock()
        if left_s > 0:
            self._sleep(left_s)
        if self._empty_caches:
            self._empty_caches()

    def after_call(self) -> None:
        """Count what the call cost."""
        after = self._read()
        if self._before and after:
            self._in_calls.append((self._before, after))

    def costs(self) -> CallCosts | None:
        """Return the sums over all calls so far; None where the system does not count."""
        if not self._in_calls:
            return None

        def in_calls(name: str) -> int:
            return sum(getattr(b, name) - getattr(a, name) for a, b in self._in_calls)

        return CallCosts(
            paused_s=self._paused_s,
            pause_cpu_s=sum(b.cpu_s - a.cpu_s for a, b in self._in_pauses),
            call_cpu_s=sum(b.cpu_s - a.cpu_s for a, b in self._in_calls),
            switches=in_calls("switches"),
            preemptions=in_calls("preemptions"),
            minor_faults=in_calls("minor_faults"),
            major_faults=in_calls("major_faults"),
        )


_MOST_CACHE_BYTES = 64 * 2**20
"""A virtual machine may be told of caches that it shares with a whole host."""


@cache
def cache_filler() -> Callable[[], object]:
    """Return what fills the caches with something else: it reads twice as much as the last holds.

    Where that is more than 64 MiB, 128 MiB are read, which empties the smaller caches alone.
    """
    size = 2 * min(last_cache_bytes() or _MOST_CACHE_BYTES, _MOST_CACHE_BYTES)
    filling = np.ones(size // 8, np.int64)
    return filling.sum

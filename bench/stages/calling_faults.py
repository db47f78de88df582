"""Faults of calling a network as it is really called, for `bench doctor`: each made for real."""

import mmap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np

from foldbench.bench import units
from foldbench.bench.analysis.capacity import holds
from foldbench.bench.analysis.memory import growth_of
from foldbench.bench.analysis.streams import gain_of, gives_more
from foldbench.bench.backends import Floats
from foldbench.bench.errors import BackendError
from foldbench.bench.measure.calling.cold_starts import to_cold_start
from foldbench.bench.samples.calling import MemoryUse, StreamBlock, StreamSeries
from foldbench.bench.samples.load import LoadTest
from foldbench.bench.timing.arrivals import LoadOptions, serve
from foldbench.bench.timing.memory import held_after_calls
from foldbench.bench.timing.simulation import FakeClock, FakeSession
from foldbench.bench.timing.streams import Streams
from foldbench.bench.workers.protocol import Job
from foldbench.bench.workers.server import WorkerServer

_WITHIN_S = 0.02
_INPUT: Floats = np.zeros((1, 1, 1, 1), np.float32)


class _StallingSession(FakeSession):
    """A session that takes 1 ms a call, and two seconds at one of them."""

    def __init__(self, clock: FakeClock) -> None:
        self._calls = 0
        super().__init__(self._duration, clock)

    def _duration(self, size: int) -> float:
        self._calls += 1
        return 2.0 if self._calls == 500 else 1e-3


class _LeakingSession(FakeSession):
    """A session that keeps a page of each call for ever, which no allocator has at hand."""

    def __init__(self) -> None:
        super().__init__(lambda size: 1e-3, FakeClock())
        self._kept: list[mmap.mmap] = []

    def step(self) -> None:
        """Run, and keep something."""
        super().step()
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._kept.append(mmap.mmap(-1, mmap.PAGESIZE, flags=private))
        self._kept[-1].write(b"x" * mmap.PAGESIZE)


class LockedSession(FakeSession):
    """A session that computes for 1 ms under a lock, which it may share with others."""

    def __init__(self, lock: Lock, clock: FakeClock) -> None:
        super().__init__(lambda size: 1e-3, clock)
        self._lock = lock

    def step(self) -> None:
        """Compute alone."""
        with self._lock:
            super().step()


def stall_server() -> None:
    """Serve images that arrive every 10 ms while one call stalls; refuse the load for it."""
    clock = FakeClock()

    def sleep(seconds: float) -> None:
        clock.advance(max(seconds, 1e-4))

    arrivals_s = [0.01 * n for n in range(1, 1001)]
    served = serve(_StallingSession(clock), _INPUT, arrivals_s, LoadOptions(), clock, sleep)
    _refuse_late(
        LoadTest(
            rate_per_s=100.0,
            seed=0,
            latencies_s=served.latencies_s,
            calls=served.calls,
            duration_s=served.duration_s,
        )
    )


def _refuse_late(test: LoadTest) -> None:
    """Raise BackendError for a load that is not answered in time."""
    if not holds(test, 0.99, _WITHIN_S):
        late = sum(seconds > _WITHIN_S for seconds in test.latencies_s)
        raise BackendError(
            f"{late} of {len(test.latencies_s)} images were answered later than "
            f"{units.duration(_WITHIN_S)} after they were due: {units.plain(test.rate_per_s)} a "
            "second are not held"
        )


def leak() -> bool:
    """Make calls that keep memory, and refuse them for it; return False where nothing tells."""
    session = _LeakingSession()

    def call() -> None:
        session.bind(_INPUT)
        session.step()

    each, held = held_after_calls(call, 2000, 60.0, time.perf_counter)
    _refuse_growing(MemoryUse(calls_each=each, held_bytes=held))
    return bool(held)


def _refuse_growing(use: MemoryUse) -> None:
    """Raise BackendError for calls that leak."""
    growth = growth_of(use)
    if growth is not None and growth.verdict == "leaks":
        raise BackendError(f"leaks {units.size(round(growth.point))} a call")


def lock_streams() -> None:
    """Call two sessions at once that share a lock, and refuse to call them concurrent."""
    lock, clock = Lock(), FakeClock()
    refuse_serial(lambda: LockedSession(lock, clock), clock)


def refuse_serial(opener: Callable[[], FakeSession], clock: FakeClock) -> None:
    """Raise BackendError for sessions of which two give no more calls a second than one."""
    series = {n: StreamSeries(streams=n, threads=1, sharing="sessions", blocks=()) for n in (1, 2)}
    for n in series:
        blocks: list[StreamBlock] = []
        with Streams([opener] * n, [_INPUT], clock) as streams:
            for number in range(1, 9):
                block = streams.time(calls=10, block_s=0.0, settle_s=0.0).block
                blocks.append(replace(block, round=number, run_delay_ratio=None))
        series[n] = replace(series[n], blocks=tuple(blocks))
    gain = gain_of(series[2], series[1])
    if not gives_more(series[2], series[1]):
        times = units.ratio(gain.point) if gain else "no"
        raise BackendError(f"two at once give {times} times the calls a second of one: no more")


def start_from_cache(job: Job) -> None:
    """Take the opening in a process that has its runtime loaded for a cold start."""
    with WorkerServer(job) as server:
        to_cold_start(server.open(), 1.0)


def job_of(folder: Path, path: Path, images: Path, classes: int) -> Job:
    """Return what a worker is to open."""
    return Job(
        backend="ort",
        device="cpu",
        threads=1,
        variant="unfolded",
        folder=folder,
        path=path,
        images=images,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        classes=classes,
        batch_size=8,
    )

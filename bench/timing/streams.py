"""Several callers at once: a thread each, all of them busy until the last has made its calls.

A session belongs to the thread that opened it (torch's inference mode does, and its number of
threads), so each thread opens its own, or takes another session of an open network.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from foldbench.bench.backends import Closing, Floats, Session
from foldbench.bench.errors import BackendError
from foldbench.bench.machine.interference import measure_between, read_counters
from foldbench.bench.samples.calling import StreamBlock
from foldbench.bench.timing.loop import Clock, no_garbage_collection, time_call

_FAR_AHEAD = 20
_HANGING_S = 600.0
"""How long a stream may keep silent."""
_CLOSING_S = 5.0
"""How long a stream may take to close its session."""


class _OtherFailedError(BackendError):
    """A stream gave up because another one failed."""


def _is_of_another(error: Exception) -> bool:
    return isinstance(error, _OtherFailedError)


@dataclass
class _Order:
    """One block of calls, seen by all threads."""

    calls: int
    block_s: float
    settle_s: float
    begin: threading.Barrier
    made: list[int]
    started_s: float = 0.0

    def is_due(self, stream: int, now_s: float) -> bool:
        """Return whether a stream is to go on: until every one has made its calls.

        One that is so far ahead that another one starves does not wait for it.
        """
        waits = min(self.made) < self.calls and self.made[stream] < _FAR_AHEAD * self.calls
        return waits or now_s - self.started_s < self.block_s


@dataclass
class _Done:
    """What one thread gave; `error` in place of the rest."""

    stream: int
    samples: list[float] = field(default_factory=list)
    batch: int = 0
    output: Floats | None = None
    ended_s: float = 0.0
    error: Exception | None = None


@dataclass(frozen=True)
class TimedStreams:
    """A block, and the last output of each stream with the index of its batch."""

    block: StreamBlock
    outputs: tuple[tuple[int, Floats], ...]


class Streams(Closing):
    """Threads with a session each, which wait for a block to time."""

    def __init__(
        self, openers: Sequence[Callable[[], Session]], batches: Sequence[Floats], clock: Clock
    ) -> None:
        """Open the sessions, one thread after the other; raise what an opener raises."""
        self._batches, self._clock = batches, clock
        self._done: SimpleQueue[_Done] = SimpleQueue()
        self._orders: list[SimpleQueue[_Order | None]] = []
        self._threads: list[threading.Thread] = []
        for stream, opener in enumerate(openers):
            orders: SimpleQueue[_Order | None] = SimpleQueue()
            self._orders.append(orders)
            name = f"foldbench-stream-{stream}"
            target, arguments = self._serve, (stream, opener, orders)
            thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
            try:
                self._next()
            except BaseException:
                self.close()
                raise

    def time(self, calls: int, block_s: float, settle_s: float) -> TimedStreams:
        """Time calls of all streams at once, at least `calls` of each and `block_s` seconds.

        Each goes on until all have made theirs, so that the load is full from the first timed call
        to the last. Raises what a stream raises.
        """
        order = _Order(
            calls,
            block_s,
            settle_s,
            threading.Barrier(len(self._orders)),
            [0] * len(self._orders),
        )
        with no_garbage_collection():
            before = read_counters()
            for orders in self._orders:
                orders.put(order)
            done = [self._done.get(timeout=_HANGING_S) for _ in self._orders]
            after = read_counters()
        for error in sorted(filter(None, (one.error for one in done)), key=_is_of_another):
            raise error
        samples = tuple(s for one in done for s in one.samples)
        wall_s = max(one.ended_s for one in done) - order.started_s
        watched = vars(measure_between(before, after))
        if len(done) > 1:  # they wait for one another: that says nothing of others
            watched["run_delay_ratio"] = None
        outputs = tuple((one.batch, one.output) for one in done if one.output is not None)
        return TimedStreams(StreamBlock(samples_s=samples, wall_s=wall_s, **watched), outputs)

    def close(self) -> None:
        """Let the threads close their sessions and end; one that hangs is not waited for.

        A process that ended while runtimes close their own threads would be aborted.
        """
        for orders in self._orders:
            orders.put(None)
        for thread in self._threads:
            thread.join(_CLOSING_S)

    def _next(self) -> _Done:
        done = self._done.get(timeout=_HANGING_S)
        if done.error is not None:
            raise done.error
        return done

    def _serve(
        self, stream: int, opener: Callable[[], Session], orders: "SimpleQueue[_Order | None]"
    ) -> None:
        try:
            with opener() as session:
                self._done.put(_Done(stream))
                while (order := orders.get()) is not None:
                    self._done.put(self._run(stream, session, order))
        except Exception as error:  # raised in the thread that waits
            self._done.put(_Done(stream, error=error))

    def _run(self, stream: int, session: Session, order: _Order) -> _Done:
        try:
            return self._call(stream, session, order)
        except threading.BrokenBarrierError:
            return _Done(stream, error=_OtherFailedError("another stream failed"))
        except BaseException:
            order.begin.abort()
            order.made[stream] = order.calls  # the others need not wait for it
            raise

    def _call(self, stream: int, session: Session, order: _Order) -> _Done:
        batches, clock, done = self._batches, self._clock, _Done(stream)
        index, until = stream, clock() + order.settle_s
        while index == stream or clock() < until:
            time_call(session, batches[index % len(batches)], clock)
            index += 1
        if order.begin.wait() == 0:
            order.started_s = clock()
        order.begin.wait()
        while order.is_due(stream, clock()):
            done.batch = index % len(batches)
            seconds, done.output = time_call(session, batches[done.batch], clock)
            done.samples.append(seconds)
            order.made[stream] += 1
            index += 1
        done.ended_s = clock()
        return done

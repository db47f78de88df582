"""Several callers at once: really at once, all busy until the last is done, errors told."""

import threading
import time

import numpy as np
import pytest

from foldbench.bench.backends import Floats
from foldbench.bench.errors import BackendError
from foldbench.bench.timing.simulation import FakeClock, FakeSession
from foldbench.bench.timing.streams import Streams

BATCHES = [np.full((1, 1, 1, 1), n, np.float32) for n in range(3)]


class Meeting(FakeSession):
    """A session whose first two calls, untimed and timed, end while another's are under way."""

    def __init__(self, meeting: threading.Barrier, seen: set[int]) -> None:
        super().__init__(lambda size: 1e-3, FakeClock())
        self._meeting, self._seen, self._met = meeting, seen, 0

    def step(self) -> None:
        self._seen.add(threading.get_ident())
        self._met += 1
        if self._met <= 2:
            self._meeting.wait(timeout=30)
        super().step()


class Failing(FakeSession):
    """A session that fails at a call."""

    def __init__(self, right_calls: int) -> None:
        super().__init__(lambda size: 1e-3, FakeClock())
        self._left = right_calls

    def step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise BackendError("out of memory")
        super().step()


def steady() -> FakeSession:
    return FakeSession(lambda size: 1e-3, FakeClock())


class Ticks:
    """A clock that moves on whenever it is read."""

    def __init__(self) -> None:
        self._now_s, self._lock = 0.0, threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            self._now_s += 1e-3
            return self._now_s


def test_streams_call_at_once_each_in_a_thread_of_its_own() -> None:
    meeting, seen = threading.Barrier(2), set()
    with Streams([lambda: Meeting(meeting, seen)] * 2, BATCHES, lambda: 0.0) as streams:
        timed = streams.time(calls=1, block_s=0.0, settle_s=0.0)
    assert len(seen) == 2
    assert threading.get_ident() not in seen
    assert len(timed.block.samples_s) >= 2


def test_every_stream_makes_its_calls_and_answers_right() -> None:
    with Streams([steady] * 3, BATCHES, Ticks()) as streams:
        for _ in range(2):
            timed = streams.time(calls=4, block_s=0.02, settle_s=0.0)
            assert len(timed.block.samples_s) >= 3 * 4
            assert timed.block.wall_s > 0
            assert timed.block.run_delay_ratio is None
            assert len(timed.outputs) == 3
            for index, output in timed.outputs:
                assert answer(output) == index


def answer(output: Floats) -> int:
    return int(output.argmax(1)[0])


@pytest.mark.parametrize("right_calls", [0, 1, 3])
def test_what_fails_in_a_stream_is_raised_where_it_is_waited_for(right_calls: int) -> None:
    openers = [steady, lambda: Failing(right_calls)]
    with (
        Streams(openers, BATCHES, Ticks()) as streams,
        pytest.raises(BackendError, match="out of memory"),
    ):
        streams.time(calls=5, block_s=0.0, settle_s=0.0)


def test_a_session_that_does_not_open_is_raised_at_once() -> None:
    def refuse() -> FakeSession:
        raise BackendError("no such file")

    with pytest.raises(BackendError, match="no such file"):
        Streams([steady, refuse], BATCHES, Ticks())


class SlowToClose(FakeSession):
    """A session whose runtime takes a while to end its threads."""

    def __init__(self, closed: list[int]) -> None:
        super().__init__(lambda size: 1e-3, FakeClock())
        self._closed = closed

    def close(self) -> None:
        time.sleep(0.05)
        self._closed.append(threading.get_ident())


def test_every_session_is_closed_by_its_thread_before_the_process_may_end() -> None:
    closed: list[int] = []
    with Streams([lambda: SlowToClose(closed)] * 2, BATCHES, Ticks()):
        pass
    assert len(set(closed)) == 2
    assert threading.get_ident() not in closed

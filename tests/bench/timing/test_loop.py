"""The timing loop, with a clock whose every move is known."""

import gc
from itertools import pairwise

import numpy as np
import pytest

from foldbench.bench.backends import Closing
from foldbench.bench.timing.loop import BlockOptions, time_block, time_call, warm_up
from foldbench.bench.timing.simulation import FakeClock, FakeSession

QUICK = BlockOptions(calls=5, block_s=0.0, settle_s=0.0)


def batches(count: int, size: int = 1) -> list[np.ndarray]:
    """Batch number k holds images whose first pixel is k."""
    return [np.full((size, 3, 2, 2), k, np.float32) for k in range(count)]


def fake(step_s: float = 0.25) -> tuple[FakeSession, FakeClock]:
    clock = FakeClock()
    return FakeSession(lambda size: step_s * size, clock), clock


def test_a_call_takes_exactly_as_long_as_the_step() -> None:
    session, clock = fake(0.25)
    seconds, output = time_call(session, batches(1, size=2)[0], clock)
    assert seconds == 0.5
    assert output.shape == (2, 10)


def test_untimed_calls_come_first_and_are_not_among_the_samples() -> None:
    session, clock = fake()
    timed = time_block(session, batches(2), QUICK, clock)
    assert timed.settle_calls == 3
    assert timed.block.samples_s == (0.25,) * 5
    assert clock.now_s == (3 + 5) * 0.25


def test_settling_and_the_block_last_at_least_as_long_as_asked() -> None:
    session, clock = fake(0.25)
    options = BlockOptions(calls=2, block_s=2.0, settle_s=1.5)
    timed = time_block(session, batches(2), options, clock)
    assert timed.settle_calls == 6 + 1, "one more after the clocks were read"
    assert timed.block.samples_s == (0.25,) * 8


def test_a_first_call_that_compiles_is_not_taken_for_the_warm_up() -> None:
    clock = FakeClock()
    seen: list[int] = []

    def step_s(size: int) -> float:
        seen.append(size)
        return 30.0 if len(seen) == 1 else 0.01

    warm = warm_up(FakeSession(step_s, clock), batches(2), 0.5, clock)
    assert warm.first_call_s == pytest.approx(30)
    assert warm.calls > 30
    assert warm.converged


def test_inputs_rotate_and_the_last_output_comes_with_its_batch() -> None:
    session, clock = fake()
    seen: list[int] = []
    bind = session.bind

    def watch(x: np.ndarray) -> None:
        seen.append(int(x[0, 0, 0, 0]))
        bind(x)

    session.bind = watch  # type: ignore[method-assign]
    timed = time_block(session, batches(3), QUICK, clock)
    assert all(b == (a + 1) % 3 for a, b in pairwise(seen))
    assert seen[-1] == timed.batch == timed.output.argmax()


def test_the_device_is_idle_before_and_done_after_a_timed_call() -> None:
    session, clock = fake()
    events: list[str] = []
    for name in ("synchronize", "bind", "step", "output"):
        method = getattr(session, name)

        def record(*args: object, name: str = name, method=method) -> object:
            events.append(name)
            return method(*args)

        setattr(session, name, record)

    def watch() -> float:
        events.append("clock")
        return clock()

    time_call(session, batches(1)[0], watch)
    assert events == ["synchronize", "clock", "bind", "step", "synchronize", "output", "clock"]


def test_garbage_is_not_collected_inside_a_block_and_is_again_after() -> None:
    session, clock = fake()
    states: list[bool] = []
    step = session.step

    def watch() -> None:
        states.append(gc.isenabled())
        step()

    session.step = watch  # type: ignore[method-assign]
    time_block(session, batches(1), QUICK, clock)
    assert states == [False] * (3 + 5), "nor between the untimed calls and the timed ones"
    assert gc.isenabled()


def test_a_failing_step_leaves_garbage_collection_on() -> None:
    session, clock = fake()

    def fail() -> None:
        raise RuntimeError("broken")

    session.step = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        time_block(session, batches(1), QUICK, clock)
    assert gc.isenabled()


def test_warming_up_goes_on_until_the_times_settle() -> None:
    clock = FakeClock()
    slow_first = iter([0.5, 0.4, 0.3, 0.2])
    session = FakeSession(lambda size: next(slow_first, 0.01), clock)
    warm = warm_up(session, batches(3), 1.5, clock)
    assert (warm.first_call_s, warm.converged) == (0.5, True)
    assert 1.5 <= clock.now_s < 9


def test_warming_up_ends_even_when_the_times_never_settle() -> None:
    clock = FakeClock()
    times = iter(0.01 * 1.2**k for k in range(1000))
    warm = warm_up(FakeSession(lambda size: next(times), clock), batches(1), 0.5, clock)
    assert not warm.converged
    assert clock.now_s >= 3.0


def test_a_worker_sets_what_it_has_loaded_apart_from_what_may_be_garbage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise looking for garbage before each block takes longer than the block."""
    from foldbench.bench.workers import server

    calls: list[str] = []
    requests = iter([("open",), ("memory",)])

    class Connection:
        def recv(self) -> tuple[str, ...]:
            try:
                return next(requests)
            except StopIteration:
                raise EOFError from None

        def send(self, answer: object) -> None:
            calls.append("answer")

    class WorkerServer(Closing):
        def __init__(self, *_: object) -> None:
            self.open = self.memory = self.close = lambda: None

    monkeypatch.setattr(server, "WorkerServer", WorkerServer)
    monkeypatch.setattr(server.gc, "freeze", lambda: calls.append("freeze"))
    monkeypatch.setattr(server.gc, "collect", lambda: calls.append("collect"))
    server.serve(Connection(), None)  # type: ignore[arg-type]
    assert calls == ["collect", "freeze", "answer", "answer"]

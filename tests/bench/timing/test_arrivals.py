"""An open loop: latency counts from when an image was due, and a stall hits all that wait."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldbench.bench.timing.arrivals import LoadOptions, Served, poisson, scaled_to, serve
from foldbench.bench.timing.simulation import FakeClock, FakeSession

INPUTS = np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)


class Stalling(FakeSession):
    """Takes 1 ms a call, but one second at one of them."""

    def __init__(self, clock: FakeClock, stalls_at: int) -> None:
        self._left = stalls_at
        super().__init__(self._duration, clock)

    def _duration(self, size: int) -> float:
        self._left -= 1
        return 1.0 if self._left == 0 else 1e-3


def served_by(session: FakeSession, arrivals_s, options: LoadOptions, clock: FakeClock) -> Served:
    def sleep(seconds: float) -> None:
        clock.advance(max(seconds, 2e-5))  # looking at the clock takes its time, too

    return serve(session, INPUTS, arrivals_s, options, clock, sleep)


def test_a_stall_delays_everybody_who_would_have_called_meanwhile() -> None:
    clock = FakeClock()
    arrivals = [0.01 * n for n in range(1, 301)]
    served = served_by(Stalling(clock, 100), arrivals, LoadOptions(), clock)
    late = [s for s in served.latencies_s if s > 0.1]
    # the second of the stall holds 100 arrivals; a closed loop would have seen one slow call
    assert len(late) == pytest.approx(100, abs=2)
    assert max(served.latencies_s) == pytest.approx(1.0, abs=1e-3)
    assert np.quantile(served.latencies_s, 0.95) > 0.8
    assert served.unanswered == 0


@settings(max_examples=30)
@given(st.integers(1, 8), st.floats(0, 0.02), st.integers(0, 99), st.floats(50, 2000))
def test_every_image_is_answered_once_and_never_before_it_is_due(
    most: int, wait_s: float, seed: int, rate: float
) -> None:
    clock = FakeClock()
    session = FakeSession(lambda size: 1e-3 + 1e-4 * size, clock)
    options = LoadOptions(most, wait_s, give_up_s=1e9)
    served = served_by(session, poisson(rate, 60, seed), options, clock)
    assert len(served.latencies_s) == 60
    assert min(served.latencies_s) >= 1.1e-3 - 1e-9
    assert served.calls >= 60 / most
    for first, size, output in served.outputs:
        assert output.argmax(1).tolist() == list(range(first, first + size))


def test_a_batch_is_begun_when_it_is_full_or_its_first_image_has_waited() -> None:
    clock = FakeClock()
    session = FakeSession(lambda size: 1e-3, clock)
    # four at once fill a batch; two more wait 5 ms for others, and none come
    arrivals = (0.1, 0.1, 0.1, 0.1, 0.2, 0.2)
    served = served_by(session, arrivals, LoadOptions(4, 5e-3), clock)
    assert served.calls == 2
    assert served.latencies_s[:4] == pytest.approx([1e-3] * 4, abs=1e-4)
    assert served.latencies_s[4:] == pytest.approx([6e-3] * 2, abs=1e-4)


def test_a_hopeless_load_is_given_up() -> None:
    clock = FakeClock()
    session = FakeSession(lambda size: 0.1, clock)
    options = LoadOptions(give_up_s=1.0)
    served = served_by(session, poisson(1000.0, 1000, 0), options, clock)
    assert served.unanswered > 900
    assert served.duration_s < 2


def test_arrivals_are_random_at_the_rate_and_the_same_for_a_seed() -> None:
    times = np.array(poisson(100.0, 20_000, 3))
    gaps = np.diff(times)
    assert gaps.mean() == pytest.approx(0.01, rel=0.03)
    assert gaps.std() == pytest.approx(0.01, rel=0.05)
    assert poisson(100.0, 50, 3) == poisson(100.0, 50, 3) != poisson(100.0, 50, 4)


def test_a_recording_keeps_its_shape_at_another_rate() -> None:
    assert scaled_to((5.0, 6.0, 9.0), 1.0) == pytest.approx((0.0, 0.5, 2.0))

"""A contender that autotunes selects another tactic only when it is clearly faster."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.analysis.estimates import RESOLUTION
from foldbench.bench.backends import Session, Tunable
from foldbench.bench.backends._ort.tactics import (
    NO_SPIN_WAIT,
    WHOLE,
    MicroBatchSession,
    TunedSession,
)
from foldbench.bench.errors import BackendError
from foldbench.bench.timing.loop import BlockOptions
from foldbench.bench.timing.simulation import FakeClock, FakeSession
from foldbench.bench.timing.tuning import ROUNDS, autotune, choose_tactic

QUICK = BlockOptions(calls=2, block_s=0.0, settle_s=0.0)


def images(count: int) -> np.ndarray:
    """Image number k has the first pixel k, by which the fake network classifies it."""
    x = np.zeros((count, 3, 2, 2), np.float32)
    x[:, 0, 0, 0] = np.arange(count)
    return x


def tuned(
    step_s: Callable[[int], float], asleep_s: Callable[[int], float] | None = None
) -> tuple[TunedSession, FakeClock]:
    """A session whose steps take known times, also when its threads sleep."""
    clock = FakeClock()
    session = FakeSession(step_s, clock)
    session.threads = 2
    return TunedSession(session, lambda: FakeSession(asleep_s or step_s, clock)), clock


def chosen(session: TunedSession, clock: FakeClock, size: int) -> str:
    tuning, _ = autotune(session, [images(size), images(size)], clock, QUICK)
    return tuning.chosen


def test_pieces_that_are_faster_are_found_and_used_from_then_on() -> None:
    session, clock = tuned(lambda n: 0.009 if n == 16 else n * 0.001)
    tuning, calls = autotune(session, [images(64), images(64)], clock, QUICK)
    assert tuning.chosen == "micro-batches of 16"
    assert [tactic.name for tactic in tuning.ways] == [
        WHOLE,
        "micro-batches of 8",
        "micro-batches of 16",
        "micro-batches of 32",
        NO_SPIN_WAIT,
    ]
    assert tuning.ways[0].medians_s == (pytest.approx(0.064),) * ROUNDS
    assert tuning.ways[2].medians_s == (pytest.approx(0.036),) * ROUNDS
    assert calls == 5 * ROUNDS * (3 + 2)
    before = clock.now_s
    session.bind(images(64))
    session.step()
    assert clock.now_s - before == pytest.approx(0.036)


def test_a_slow_network_is_searched_in_fewer_rounds() -> None:
    session, clock = tuned(lambda n: n * 0.1)
    tuning, _ = autotune(session, [images(64)], clock, QUICK)
    assert all(len(tactic.medians_s) == 3 for tactic in tuning.ways)


def test_a_gain_within_what_cannot_be_told_apart_changes_nothing() -> None:
    assert chosen(*tuned(lambda n: n * 0.1 * (0.98 if n == 8 else 1)), 64) == WHOLE
    assert chosen(*tuned(lambda n: n * 0.1 * (0.9 if n == 8 else 1)), 64) == "micro-batches of 8"


def test_threads_that_sleep_are_tried_where_there_is_more_than_one() -> None:
    session, clock = tuned(lambda n: 1.0, asleep_s=lambda n: 0.5)
    assert chosen(session, clock, 1) == NO_SPIN_WAIT
    session.threads = 1
    assert session.tactics(1) == (WHOLE,)


def test_with_one_way_nothing_is_tried() -> None:
    session, clock = tuned(lambda n: 1.0)
    session.threads = 1
    tuning, calls = autotune(session, [images(8)], clock, QUICK)
    assert (tuning.chosen, calls, clock.now_s) == (WHOLE, 0, 0.0)


def test_each_batch_size_has_its_own_way() -> None:
    session, clock = tuned(lambda n: 0.1 if n <= 8 else 10.0)
    assert chosen(session, clock, 64) == "micro-batches of 8"
    before = clock.now_s
    session.bind(images(32))  # nothing was chosen for it
    session.step()
    assert clock.now_s - before == 10.0


def test_a_way_that_there_is_not_is_refused() -> None:
    session, _ = tuned(lambda n: 1.0)
    with pytest.raises(BackendError, match="'micro-batches of 16'"):
        session.select_tactic(16, "micro-batches of 16")


ROUND = st.floats(0.5, 2.0)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.lists(ROUND, min_size=ROUNDS, max_size=ROUNDS),
        min_size=1,
    ),
    st.lists(ROUND, min_size=ROUNDS, max_size=ROUNDS),
)
def test_whatever_is_chosen_over_the_plain_way_was_faster_in_median_and_at_best(
    others: Mapping[str, list[float]], plain: list[float]
) -> None:
    found = {"plain": plain, **others}
    tactic = choose_tactic(found, {name: [True] * ROUNDS for name in found})
    if tactic != "plain":
        ratios = sorted(a / b for a, b in zip(found[tactic], plain, strict=True))
        assert ratios[ROUNDS // 2] < 1 - RESOLUTION
        assert min(found[tactic]) < (1 - RESOLUTION) * min(plain)


def test_rounds_in_which_something_else_ran_do_not_decide() -> None:
    medians = {"plain": [1.0, 1.0, 1.0, 9.0, 9.0], "other": [1.0, 1.0, 1.0, 0.1, 0.1]}
    calm = {name: [True] * 3 + [False] * 2 for name in medians}
    assert choose_tactic(medians, calm) == "plain"


def test_one_lucky_block_does_not_decide() -> None:
    medians = {"plain": [1.0] * 5, "other": [1.0, 1.0, 1.0, 1.0, 0.5]}
    assert choose_tactic(medians, {name: [True] * 5 for name in medians}) == "plain"


@given(st.integers(1, 40), st.integers(1, 12))
def test_pieces_give_the_answers_of_the_whole_batch_in_its_order(count: int, size: int) -> None:
    seen: list[int] = []

    def step_s(n: int) -> float:
        seen.append(n)
        return 0.0

    session = MicroBatchSession(FakeSession(step_s, FakeClock()), size)
    session.bind(images(count))
    session.step()
    np.testing.assert_array_equal(session.output().argmax(1), np.arange(count) % 10)
    assert sum(seen) == count
    assert all(n == size for n in seen[:-1])
    assert seen[-1] <= size


def test_a_session_with_several_ways_is_told_from_one_without() -> None:
    session, clock = tuned(lambda n: 1.0)
    plain: Session = FakeSession(lambda n: 1.0, clock)
    assert isinstance(session, Tunable)
    assert not isinstance(plain, Tunable)
    assert not isinstance(MicroBatchSession(plain, 4), Tunable)

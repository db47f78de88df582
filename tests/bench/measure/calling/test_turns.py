"""Turns of one section: everybody once a round, a failure ends its turn alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BackendError
from foldbench.bench.measure.calling.turns import Pass, Turn, TurnsTaken
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Block
from foldbench.bench.timing.simulation import FakeClock


def make_contender(backend: str) -> Contender:
    return Contender(ContenderSpec(backend, "folded", "cpu", Path("x.onnx")))


def take(
    turns: list[Turn], clock: FakeClock, opened: Callable[[Contender], None], **settings: object
) -> TurnsTaken:
    section = CompareSection.model_validate({"rounds": 8, "processes": 4, **settings})
    return Pass("a test", section, NullListener(), opened, clock).run(turns)


def ticking(clock: FakeClock, seconds: float) -> Callable[[], Block]:
    def time() -> Block:
        clock.advance(seconds)
        return Block(samples_s=(seconds,))

    return time


def test_rounds_are_spread_over_processes_and_pair_by_number() -> None:
    clock, opened = FakeClock(), []
    a, b = make_contender("a"), make_contender("b")
    turns = [Turn("a", a, ticking(clock, 0.1)), Turn("b", b, ticking(clock, 0.2), "a")]
    taken = take(turns, clock, opened.append)
    assert opened == [a, b] * 4
    for blocks in taken.blocks.values():
        assert [block.round for block in blocks] == list(range(1, 9))
        assert [block.process for block in blocks] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_one_that_fails_is_out_with_its_reason_and_the_others_go_on() -> None:
    clock = FakeClock()

    def fail() -> Block:
        raise BackendError("out of memory")

    a = make_contender("a")
    turns = [Turn("small", a, ticking(clock, 0.1)), Turn("large", a, fail, "small")]
    taken = take(turns, clock, lambda contender: None)
    assert taken.reasons == {"large": "out of memory"}
    assert len(taken.blocks["small"]) == 8
    assert taken.blocks["large"] == []


def test_one_whose_process_does_not_start_has_that_as_its_reason() -> None:
    clock = FakeClock()
    a, b = make_contender("a"), make_contender("b")

    def opened(contender: Contender) -> None:
        if contender is b:
            contender.fail("no such device")

    turns = [Turn("a", a, ticking(clock, 0.1)), Turn("b", b, ticking(clock, 0.1))]
    taken = take(turns, clock, opened)
    assert taken.reasons == {"b": "no such device"}
    assert len(taken.blocks["a"]) == 8


@pytest.mark.parametrize(("start_s", "processes"), [(0.0, 4), (1.0, 4), (20.0, 1)])
def test_no_more_processes_are_started_than_the_budget_carries(
    start_s: float, processes: int
) -> None:
    clock = FakeClock()
    a = make_contender("a")
    taken = take(
        [Turn("a", a, ticking(clock, 0.1))],
        clock,
        lambda contender: clock.advance(start_s),
        budget_s=30.0,
    )
    assert {block.process for block in taken.blocks["a"]} == set(range(1, processes + 1))


def test_the_budget_ends_the_rounds() -> None:
    clock = FakeClock()
    a = make_contender("a")
    taken = take(
        [Turn("a", a, ticking(clock, 1.0))], clock, lambda c: None, budget_s=3.0, processes=1
    )
    assert len(taken.blocks["a"]) == 3


def test_the_first_processes_are_not_paid_from_the_budget() -> None:
    clock = FakeClock()
    a = make_contender("a")
    taken = take(
        [Turn("a", a, ticking(clock, 1.0))], clock, lambda _: clock.advance(30), budget_s=8
    )
    assert [(block.round, block.process) for block in taken.blocks["a"]] == [
        (number, 1) for number in range(1, 9)
    ]
    assert taken.spent_s == pytest.approx(8)


def test_what_is_added_has_later_rounds_and_processes() -> None:
    clock = FakeClock()
    turns = [Turn("a", make_contender("a"), ticking(clock, 0.1))]
    first, second = (take(turns, clock, lambda _: None) for _ in range(2))
    first.add(second)
    assert [block.round for block in first.blocks["a"]] == list(range(1, 17))
    assert [block.process for block in first.blocks["a"]][::2] == list(range(1, 9))
    assert first.spent_s == pytest.approx(1.6)

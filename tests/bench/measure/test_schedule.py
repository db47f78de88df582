"""Rounds: who is timed when, what is replaced, and why it stops; with known times."""

import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.records import Block
from foldbench.bench.timing.schedule import TRIES, MeasuredRounds, RoundPlan, run_rounds

NAMES = ["reference", "fast", "slow"]
SECONDS = {"reference": 0.02, "fast": 0.01, "slow": 0.04}
BLOCK_S = 0.25


class Machine:
    """Times blocks on a clock of its own; `dirty` says whether a block is disturbed."""

    def __init__(self, dirty: Callable[[str, int], bool] = lambda name, number: False) -> None:
        self.now_s = 0.0
        self.dirty = dirty
        self.order: list[tuple[int, str]] = []
        self.noise = random.Random(1)
        self.failing: set[tuple[str, int]] = set()

    def clock(self) -> float:
        return self.now_s

    def time_one(self, name: str, number: int) -> Block | None:
        self.now_s += BLOCK_S
        self.order.append((number, name))
        if (name, number) in self.failing:
            return None
        dirty = self.dirty(name, number)
        seconds = SECONDS[name] * (1 + 0.002 * self.noise.random()) * (3 if dirty else 1)
        return Block(
            round=number, samples_s=(seconds,) * 10, run_delay_ratio=0.9 if dirty else 0.01
        )

    def run(
        self, plan: RoundPlan, names: list[str] = NAMES, reference: str | None = "reference"
    ) -> MeasuredRounds:
        return run_rounds(
            names, lambda _: reference, self.time_one, plan, random.Random(0), self.clock
        )


def plan(rounds: int = 20, budget_s: float = 1e9) -> RoundPlan:
    return RoundPlan(rounds, budget_s)


def test_every_round_times_everyone_once_in_changing_order() -> None:
    machine = Machine()
    result = machine.run(plan(rounds=12))
    rounds = [[n for r, n in machine.order if r == number] for number in range(1, 13)]
    assert all(sorted(names) == sorted(NAMES) for names in rounds)
    assert len({tuple(names) for names in rounds}) > 2
    assert (result.stopped, len(machine.order)) == ("rounds", 36)


def test_how_sure_a_ratio_is_does_not_decide_when_the_rounds_end() -> None:
    machine = Machine()
    machine.noise = SimpleNamespace(random=lambda: 0.0)
    result = machine.run(plan(rounds=20))
    assert result.stopped == "rounds"
    assert {len(blocks) for blocks in result.blocks.values()} == {20}


def test_without_a_reference_or_after_its_failure_all_rounds_are_made() -> None:
    result = Machine().run(plan(rounds=20), reference=None)
    assert {name: len(blocks) for name, blocks in result.blocks.items()} == dict.fromkeys(NAMES, 20)
    machine = Machine()
    machine.failing = {("reference", 3)}
    result = machine.run(plan(rounds=20))
    assert result.stopped == "rounds"
    assert {name: len(blocks) for name, blocks in result.blocks.items()} == {"fast": 20, "slow": 20}


def test_dirty_rounds_are_kept_and_replaced() -> None:
    machine = Machine(dirty=lambda name, number: number in (2, 3, 7))
    result = machine.run(plan(rounds=10))
    assert result.stopped == "rounds"
    assert {len(blocks) for blocks in result.blocks.values()} == {10 + 3 * TRIES}
    kept = [block for block in result.blocks["fast"] if block.run_delay_ratio == 0.9]
    assert [block.round for block in kept] == [2] * TRIES + [3] * TRIES + [7] * TRIES


def test_a_dirty_block_is_timed_again_at_once_so_that_its_round_counts() -> None:
    tried: set[tuple[str, int]] = set()

    def only_at_first(name: str, number: int) -> bool:
        first = (name, number) not in tried
        tried.add((name, number))
        return first and number == 2

    machine = Machine(dirty=only_at_first)
    result = machine.run(plan(rounds=5))
    assert {len(blocks) for blocks in result.blocks.values()} == {6}
    assert {block.round for block in result.blocks["slow"]} == {1, 2, 3, 4, 5}
    second = [name for number, name in machine.order if number == 2]
    assert second[0::2] == second[1::2], "one after the other"


def test_only_those_who_lack_a_clean_round_and_their_reference_go_on() -> None:
    machine = Machine(dirty=lambda name, number: name == "slow" and number == 4)
    result = machine.run(plan(rounds=5))
    assert {name: len(blocks) for name, blocks in result.blocks.items()} == {
        "reference": 6,
        "fast": 5,
        "slow": 5 + TRIES,
    }


def test_a_dirty_reference_spoils_the_round_for_all() -> None:
    machine = Machine(dirty=lambda name, number: name == "reference" and number == 1)
    result = machine.run(plan(rounds=5))
    counts = {name: len(blocks) for name, blocks in result.blocks.items()}
    assert counts == {"reference": 5 + TRIES, "fast": 6, "slow": 6}


def test_the_budget_ends_it_whatever_is_lacking_and_one_round_is_always_made() -> None:
    machine = Machine(dirty=lambda name, number: True)
    result = machine.run(plan(rounds=5, budget_s=30 * BLOCK_S))
    assert result.stopped == "budget"
    assert 30 <= len(machine.order) <= 33
    assert all(result.blocks.values())
    result = Machine().run(plan(rounds=5, budget_s=BLOCK_S / 10))
    assert {len(blocks) for blocks in result.blocks.values()} == {1}


def test_one_that_fails_is_out_and_the_others_go_on() -> None:
    machine = Machine()
    machine.failing = {("fast", 3)}
    result = machine.run(plan(rounds=6))
    assert sorted(result.blocks) == ["reference", "slow"]
    assert {len(blocks) for blocks in result.blocks.values()} == {6}
    assert ("fast" in {name for number, name in machine.order if number > 3}) is False


def test_without_a_reference_each_ones_own_clean_rounds_count() -> None:
    machine = Machine(dirty=lambda name, number: name == "slow" and number == 1)
    result = machine.run(plan(rounds=4), reference=None)
    assert {name: len(blocks) for name, blocks in result.blocks.items()} == {
        "reference": 4,
        "fast": 4,
        "slow": 4 + TRIES,
    }


def test_when_everyone_fails_it_ends() -> None:
    machine = Machine()
    machine.failing = {(name, 1) for name in NAMES}
    assert machine.run(plan(rounds=4)).blocks == {}


@settings(max_examples=60, deadline=None)
@given(
    dirty=st.sets(st.tuples(st.sampled_from(NAMES), st.integers(1, 30))),
    rounds=st.integers(1, 12),
    budget_rounds=st.integers(1, 60),
)
def test_it_always_ends_within_the_budget_and_with_what_it_says(
    dirty: set[tuple[str, int]], rounds: int, budget_rounds: int
) -> None:
    machine = Machine(dirty=lambda name, number: (name, number) in dirty)
    result = machine.run(plan(rounds=rounds, budget_s=budget_rounds * 3 * BLOCK_S))
    assert machine.now_s <= (budget_rounds + 1) * 3 * BLOCK_S + BLOCK_S
    clean = {
        name: {b.round for b in blocks if b.run_delay_ratio == 0.01}
        for name, blocks in result.blocks.items()
    }
    enough = all(len(clean[name] & clean["reference"]) >= rounds for name in NAMES)
    assert enough == (result.stopped == "rounds")


@pytest.mark.parametrize("name", NAMES)
def test_no_block_is_lost(name: str) -> None:
    machine = Machine(dirty=lambda n, number: (number + len(n)) % 3 == 0)
    result = machine.run(plan(rounds=7))
    timed = [number for number, who in machine.order if who == name]
    assert [block.round for block in result.blocks[name]] == timed


def test_the_early_stop_of_older_files_is_read_and_kept_out_of_new_ones() -> None:
    settings = CompareSection.model_validate({"interval": 0.01})
    assert "interval" not in settings.model_dump()

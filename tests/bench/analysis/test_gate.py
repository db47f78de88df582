"""What a gate makes of times, answers, sizes and memory."""

import numpy as np
import pytest

from foldbench.bench.analysis.gate import (
    GateResult,
    check_accuracy,
    check_agreement,
    check_latency,
    check_memory,
    check_size,
    generations_of,
)
from foldbench.bench.analysis.logits import measure_agreement
from foldbench.bench.analysis.sequential import SequentialTest
from foldbench.bench.records import Block

ERRORS = (0.05, 0.05)
TEST = SequentialTest(0.02, 0.05, 0.05, 12)


def block(number: int, seconds: float, process: int, delay: float | None = None) -> Block:
    return Block(
        round=number, samples_s=(seconds,), process=1, repeat=process, run_delay_ratio=delay
    )


def answers(images: int, wrong: range) -> np.ndarray:
    found = np.zeros(images, np.int64)
    found[list(wrong)] = 1
    return found


def test_a_generation_gives_the_median_change_over_the_rounds_that_were_left_alone() -> None:
    base = [block(1, 1.0, 1), block(2, 1.0, 1), block(3, 2.0, 2), block(4, 2.0, 2)]
    again = [block(1, 1.0, 1), block(2, 1.0, 1), block(3, 2.0, 2), block(4, 2.0, 2)]
    head = [block(1, 1.1, 1), block(2, 9.0, 1, 0.5), block(3, 2.2, 2), block(4, 2.2, 2)]
    found = generations_of(base, again, head)
    assert found.changes == pytest.approx([np.log(1.1)] * 2)
    assert found.controls == pytest.approx([0.0, 0.0])
    assert found.disturbed == 0


def test_a_generation_without_such_a_round_counts_with_all_and_is_counted() -> None:
    base = [block(1, 1.0, 1, 0.5), block(2, 1.0, 2)]
    head = [block(1, 1.3, 1, 0.5), block(2, 1.1, 2)]
    found = generations_of(base, base, head)
    assert found.changes == pytest.approx([np.log(1.3), np.log(1.1)])
    assert found.disturbed == 1


def test_a_process_of_base_that_is_slow_as_a_whole_shows_in_the_control_alone_by_half() -> None:
    base, again = [block(1, 1.0, 1)], [block(1, 1.2, 1)]
    found = generations_of(base, again, [block(1, 1.0, 1)])
    assert found.changes == pytest.approx([-np.log(1.2) / 2])
    assert found.controls == pytest.approx([np.log(1.2)])


@pytest.mark.parametrize(
    ("base_wrong", "head_wrong", "outcome"),
    [
        (range(0, 100), range(0, 100), "not worse"),
        (range(0, 100), range(0, 103), "not worse"),  # 3 of 1,000 are allowed
        (range(0, 100), range(0, 130), "worse"),
        (range(0, 100), range(60, 200), "worse"),
        (range(0, 100), range(0, 106), "cannot tell"),
        (range(0, 100), range(0, 50), "not worse"),
    ],
)
def test_accuracy_is_worse_when_more_was_lost_than_allowed_and_chance_explains(
    base_wrong: range, head_wrong: range, outcome: str
) -> None:
    labels = np.zeros(1000, np.int64)
    base, head = answers(1000, base_wrong), answers(1000, head_wrong)
    check = check_accuracy(labels, base, head, 0.003, ERRORS)
    assert check.outcome == outcome
    assert check.change == pytest.approx((len(head_wrong) - len(base_wrong)) / 1000)
    assert check.smallest is not None
    assert check.smallest >= 0.003


def test_without_an_allowance_it_is_mcnemars_exact_test() -> None:
    from scipy.stats import binomtest

    labels = np.zeros(400, np.int64)
    for lost in range(1, 30):
        head = answers(400, range(10, 10 + lost))
        p_value = binomtest(lost, lost + 10, alternative="greater").pvalue
        check = check_accuracy(labels, answers(400, range(10)), head, 0.0, ERRORS)
        assert (check.outcome == "worse") == (p_value <= 0.05)


def test_a_loss_that_is_just_allowed_is_called_worse_no_more_often_than_alpha() -> None:
    random, labels = np.random.default_rng(0), np.zeros(2000, np.int64)
    outcomes = []
    for _ in range(400):
        which = random.choice(3, 2000, p=[0.025, 0.015, 0.96])  # right in BASE alone, in HEAD alone
        base, head = (which == 1).astype(np.int64), (which == 0).astype(np.int64)
        outcomes.append(check_accuracy(labels, base, head, 0.01, ERRORS).outcome)
    assert outcomes.count("worse") / 400 <= 0.06
    assert outcomes.count("not worse") / 400 <= 0.06


def test_agreement_and_size_are_counted_not_tested() -> None:
    logits = np.eye(4, dtype=np.float32)[np.arange(100) % 4]
    other = logits.copy()
    other[:2] = np.roll(other[:2], 1, axis=1)
    agreement = measure_agreement(logits, other)
    assert check_agreement(agreement, 0.02).outcome == "not worse"
    assert check_agreement(agreement, 0.019).outcome == "worse"
    assert check_size(1000, 1050, 0.05).outcome == "not worse"
    assert check_size(1000, 1051, 0.05).outcome == "worse"


def test_memory_is_tested_over_processes_like_latency() -> None:
    test = SequentialTest(0.1, 0.05, 0.05, 5)
    mib = 2**20
    same = check_memory([100 * mib] * 3, [101 * mib] * 3, [100 * mib] * 3, test)
    more = check_memory([100 * mib] * 3, [101 * mib] * 3, [150 * mib] * 3, test)
    none = check_memory([100 * mib] * 2, [101 * mib] * 2, [150 * mib] * 2, test)
    assert [check.outcome for check in (same, more, none)] == ["not worse", "worse", "cannot tell"]
    assert none.reason is not None


def result(*outcomes: str, on_unclear: str = "pass") -> GateResult:
    changes = {"worse": 0.5, "not worse": 0.0}
    checks = tuple(
        check_latency(
            size,
            generations_of(*three(changes.get(outcome, 0.02), 3 if outcome in changes else 2)),
            (1.0, 1.0),
            TEST,
        )
        for size, outcome in enumerate(outcomes, 1)
    )
    return GateResult("a", "b", checks, 0.05, 0.05, on_unclear, 1.0, 3, 12)  # type: ignore[arg-type]


def three(change: float, generations: int) -> tuple[list[Block], list[Block], list[Block]]:
    numbers = range(1, generations + 1)
    base = [block(n, 1.0, n) for n in numbers]
    return base, base, [block(n, 1 + change, n) for n in numbers]


def test_one_property_that_is_worse_makes_the_job_fail_and_one_unclear_if_so_chosen() -> None:
    assert result("not worse", "not worse").outcome == "not worse"
    assert result("not worse", "cannot tell", "worse").outcome == "worse"
    assert result("not worse", "cannot tell").outcome == "cannot tell"
    assert result("worse").fails
    assert not result("cannot tell").fails
    assert result("cannot tell", on_unclear="fail").fails

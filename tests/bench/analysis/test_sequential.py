"""The sequential test of a gate: how often it errs and what it finds, by simulation."""

from math import log

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.analysis.sequential import (
    FIRST_LOOK,
    SequentialTest,
    judge_changes,
    nominal_level,
)

Values = npt.NDArray[np.float64]

JOBS, MOST, ROUNDS = 400, 24, 3
PROCESS, ROUND, BLOCK = 0.02, 0.015, 0.004
"""Standard deviations of the logarithm, like those measured on a shared machine."""
TEST = SequentialTest(allowed=0.02, alpha=0.05, beta=0.05, most=MOST)
NOISES = ("normal", "two-state processes", "two-state rounds", "skewed", "unlike processes")


def simulate(slower: float, noise: str, seed: int = 0) -> tuple[Values, Values]:
    """Return changes and controls (JOBS, MOST) of a HEAD that takes `slower` more time."""
    rng = np.random.default_rng(seed)

    def side(process: float) -> Values:
        shape = (JOBS, MOST, ROUNDS)
        states = rng.choice([-1.0, 1.0], (JOBS, MOST, 1))
        normal = rng.standard_normal((JOBS, MOST, 1))
        of_round = rng.standard_normal(shape)
        if noise == "skewed":
            of_round = rng.exponential(1, shape) - 1
        elif noise == "two-state rounds":
            of_round = rng.choice([-1.0, 1.0], shape) + 0.2 * rng.standard_normal(shape)
        of_process = process * (states if noise == "two-state processes" else normal)
        return of_process + ROUND / 2**0.5 * of_round + BLOCK * rng.standard_normal(shape)

    base, again = side(PROCESS), side(PROCESS)
    head = side(PROCESS * (1.7 if noise == "unlike processes" else 1)) + log(1 + slower)
    return np.median(head - (base + again) / 2, axis=2), np.median(again - base, axis=2)


def run_jobs(slower: float, noise: str, test: SequentialTest = TEST) -> tuple[list[str], list[int]]:
    """Return each job's outcome, and after how many generations it ended."""
    outcomes, ends = [], []
    for changes, controls in zip(*simulate(slower, noise), strict=True):
        for count in range(FIRST_LOOK, test.most + 1):
            judged = judge_changes(changes[:count], controls[:count], test)
            if judged.outcome != "cannot tell":
                break
        outcomes.append(judged.outcome)
        ends.append(judged.generations)
    return outcomes, ends


def share(outcomes: list[str], outcome: str) -> float:
    return outcomes.count(outcome) / len(outcomes)


@pytest.mark.parametrize("noise", NOISES)
def test_of_100_identical_pairs_one_at_most_is_called_worse(noise: str) -> None:
    outcomes, _ = run_jobs(0.0, noise)
    assert share(outcomes, "worse") <= 0.01
    assert share(outcomes, "not worse") > 0.5


@pytest.mark.parametrize("noise", NOISES)
def test_a_change_that_is_just_allowed_is_called_worse_no_more_often_than_alpha(noise: str) -> None:
    outcomes, _ = run_jobs(0.02, noise)
    assert share(outcomes, "worse") <= 0.05
    assert share(outcomes, "not worse") <= 0.05


@pytest.mark.parametrize("noise", [name for name in NOISES if name != "unlike processes"])
def test_a_slow_down_of_5_percent_is_found_in_95_of_100_jobs(noise: str) -> None:
    outcomes, ends = run_jobs(0.05, noise)
    assert share(outcomes, "worse") >= 0.95
    assert np.mean(ends) < MOST / 2


def test_a_clear_case_ends_within_five_generations() -> None:
    outcomes, ends = run_jobs(0.3, "normal")
    assert share(outcomes, "worse") > 0.99
    assert np.quantile(ends, 0.95) <= 5


def test_the_smallest_regression_it_states_is_one_that_it_finds() -> None:
    changes, controls = simulate(0.0, "normal")
    pairs = zip(changes, controls, strict=True)
    stated = [judge_changes(c[:8], a[:8], TEST).smallest or 0.0 for c, a in pairs]
    outcomes, _ = run_jobs(float(np.median(stated)), "normal")
    assert share(outcomes, "worse") >= 0.93


@pytest.mark.parametrize("most", [3, 4, 12, 40])
def test_all_looks_together_err_as_often_as_stated(most: int) -> None:
    from scipy.stats import t as student

    values = np.random.default_rng(1).standard_normal((4000, most))
    level = nominal_level(0.05, most)
    found = np.zeros(len(values), bool)
    for count in range(FIRST_LOOK, most + 1):
        seen = values[:, :count]
        ratio = seen.mean(1) / seen.std(1, ddof=1) * count**0.5
        found |= student.sf(ratio, count - 1) <= level
    assert 0.04 <= found.mean() <= 0.06
    assert level <= 0.0501


def test_a_base_that_differs_from_itself_leaves_no_outcome() -> None:
    changes = 0.2 + 0.001 * np.arange(6)
    judged = judge_changes(changes, 0.05 + 0.001 * np.arange(6), TEST)
    assert judged.outcome == "cannot tell"
    assert judged.control_differs
    assert judge_changes(changes, 0.001 * np.arange(6), TEST).outcome == "worse"


def test_before_the_third_generation_nothing_is_decided() -> None:
    for count in range(FIRST_LOOK):
        judged = judge_changes([0.5] * count, [0.0] * count, TEST)
        assert (judged.outcome, judged.low, judged.smallest) == ("cannot tell", None, None)
    assert judge_changes([0.5] * 3, [0.0] * 3, TEST).outcome == "worse"


logs = st.lists(st.floats(-1, 1), min_size=3, max_size=10)


@given(logs, st.data())
def test_the_outcome_agrees_with_the_interval(changes: list[float], data: st.DataObject) -> None:
    size = len(changes)
    controls = data.draw(st.lists(st.floats(-0.001, 0.001), min_size=size, max_size=size))
    judged = judge_changes(changes, controls, TEST)
    assert judged.low is not None
    assert judged.high is not None
    assert judged.change is not None
    assert judged.smallest is not None
    assert judged.low <= judged.change + 1e-12
    assert judged.change <= judged.high + 1e-12
    assert judged.smallest >= TEST.allowed - 1e-12
    if judged.outcome == "worse":
        assert judged.low > TEST.allowed - 1e-12
    if judged.outcome == "not worse":
        assert judged.high <= TEST.allowed + 1e-12

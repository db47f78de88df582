"""A bundle's intervals are those of every other table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from foldbench.bench.analysis.between_comparisons import between_comparisons
from foldbench.bench.analysis.ratios import paired_ratio
from foldbench.bench.carried.intervals import estimate_speedup, student_quantile
from foldbench.bench.samples.ratios import assumed_sd
from foldbench.bench.samples.timing import Block


def blocks(seconds: np.ndarray) -> list[Block]:
    """One block for each round, (processes, rounds)."""
    return [
        Block(round=process * len(row) + number, process=process, samples_s=(float(value),))
        for process, row in enumerate(seconds)
        for number, value in enumerate(row)
    ]


@given(st.floats(1, 300), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_quantile_is_that_of_scipy(freedom: float, share: float) -> None:
    expected = float(stdtrit(freedom, (1 + share) / 2))
    assert student_quantile(freedom, share) == pytest.approx(expected, rel=1e-9)


@given(st.integers(3, 8), st.integers(1, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_three_processes_and_more_give_the_same_estimate(
    processes: int, rounds: int, seed: int, is_virtual: bool
) -> None:
    random = np.random.default_rng(seed)
    mine, theirs = (blocks(np.exp(random.normal(size=(processes, rounds)))) for _ in range(2))
    assumed = assumed_sd({"virtual_machine": is_virtual}, "cpu")
    expected = paired_ratio(mine, theirs, between_comparisons([(0.0, 0.0)], assumed))
    assert expected is not None
    found = estimate_speedup(mine, theirs, assumed)
    assert found == pytest.approx((expected.point, expected.low, expected.high), rel=1e-9)


def test_fewer_processes_give_no_interval_and_no_clean_round_no_ratio() -> None:
    mine, theirs = blocks(np.array([[1.0, 1.0, 2.0]])), blocks(np.array([[2.0, 3.0, 4.0]]))
    assert estimate_speedup(mine, theirs) == (pytest.approx(2.0), None, None)
    assert estimate_speedup(mine, []) is None

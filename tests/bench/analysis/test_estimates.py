"""Statistics hold for any input, and agree with published values."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.analysis.estimates import (
    calls_needed,
    mcnemar,
    median_or_none,
    median_ratio,
    percentile,
    relative_drift,
    relative_spread,
    wilson_interval,
)

seconds = st.floats(min_value=1e-6, max_value=10.0)
blocks = st.dictionaries(
    st.integers(0, 20), st.lists(seconds, min_size=1, max_size=5), min_size=1, max_size=12
)


@st.composite
def shares(draw):
    total = draw(st.integers(1, 100_000))
    return draw(st.integers(0, total)), total


@given(shares())
def test_a_wilson_interval_lies_within_0_and_1_and_contains_the_share(share):
    correct, total = share
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1


@given(shares())
def test_a_wilson_interval_is_mirrored_when_right_and_wrong_change_places(share):
    correct, total = share
    low, high = wilson_interval(correct, total)
    assert wilson_interval(total - correct, total) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(shares())
def test_more_confidence_never_narrows_a_wilson_interval(share):
    narrow, wide = wilson_interval(*share, 0.9), wilson_interval(*share, 0.99)
    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_those_of_newcombe_1998_table_1(correct, total, low, high):
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 5)])
def test_a_share_that_cannot_be_is_refused(correct, total):
    with pytest.raises(ValueError, match="[kn] .*must"):
        wilson_interval(correct, total)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 5, 2 / 32), (1, 9, 22 / 1024), (5, 15, 43400 / 2**20), (4, 4, 1.0), (0, 0, 1.0)],
)
def test_mcnemars_p_values_are_those_of_a_table_of_the_binomial(only_a, only_b, p):
    assert mcnemar(only_a, only_b) == pytest.approx(p, rel=1e-12)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_test_is_twice_the_exact_tail(only_a, only_b):
    total, smaller = only_a + only_b, min(only_a, only_b)
    tail = Fraction(sum(comb(total, k) for k in range(smaller + 1)), 2**total)
    assert mcnemar(only_a, only_b) == pytest.approx(float(min(1, 2 * tail)), rel=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_mcnemars_test_takes_large_counts_and_none_below_0():
    assert 1e-70 < mcnemar(31, 320) < 1e-50
    assert mcnemar(0, 5000) == 0.0
    with pytest.raises(ValueError, match="must"):
        mcnemar(-1, 3)


def test_the_median_of_nothing_does_not_exist():
    assert median_or_none([]) is None
    assert median_or_none([3.0, 1.0, 2.0]) == 2.0


@pytest.mark.parametrize(("q", "needed"), [(0.5, 20), (0.9, 100), (0.95, 200), (0.99, 1000)])
def test_a_percentile_appears_with_ten_samples_beyond_it_and_not_before(q, needed):
    assert calls_needed(q) == needed
    assert percentile([1.0] * (needed - 1), q) is None
    assert percentile([1.0] * needed, q) == 1.0


@given(st.lists(seconds, min_size=200, max_size=220))
def test_p95_lies_among_the_samples(samples):
    value = percentile(samples, 0.95)
    assert median_or_none(samples) <= value <= max(samples)


@given(blocks)
def test_a_contender_is_exactly_as_fast_as_itself(mine):
    ratio = median_ratio(mine, mine)
    assert ratio.point == 1.0
    assert ratio.rounds == len(mine)
    assert (ratio.low is None) == (len(mine) < 5)
    assert ratio.low in (None, 1.0)


@given(blocks, blocks)
def test_a_ratio_is_the_same_in_another_unit_of_time(reference, mine):
    def in_ms(rounds):
        return {r: [s * 1000 for s in samples] for r, samples in rounds.items()}

    ratio, scaled = median_ratio(reference, mine), median_ratio(in_ms(reference), in_ms(mine))
    if ratio is None:
        assert scaled is None
    else:
        assert scaled.point == pytest.approx(ratio.point)
        assert scaled.low == (None if ratio.low is None else pytest.approx(ratio.low))


@given(blocks, blocks)
def test_a_ratio_does_not_depend_on_the_order_of_rounds_or_calls(reference, mine):
    backwards = {r: samples[::-1] for r, samples in reversed(mine.items())}
    assert median_ratio(reference, backwards) == median_ratio(reference, mine)


@given(blocks, st.floats(min_value=0.1, max_value=10.0))
def test_half_the_time_is_twice_the_speed(reference, factor):
    faster = {r: [s / factor for s in samples] for r, samples in reference.items()}
    ratio = median_ratio(reference, faster)
    assert ratio.point == pytest.approx(factor)
    if ratio.low is not None:
        assert ratio.low == pytest.approx(factor)
        assert ratio.high == pytest.approx(factor)


@given(blocks, blocks)
def test_an_interval_surrounds_its_ratio(reference, mine):
    ratio = median_ratio(reference, mine)
    if ratio is not None and ratio.low is not None:
        assert ratio.low <= ratio.point <= ratio.high


def test_only_rounds_that_both_took_part_in_count():
    ratio = median_ratio({0: [2.0], 1: [2.0], 7: [900.0]}, {0: [1.0], 1: [1.0], 8: [0.001]})
    assert (ratio.point, ratio.rounds) == (2.0, 2)
    assert median_ratio({0: [1.0]}, {1: [1.0]}) is None


def test_the_same_blocks_give_the_same_interval_as_in_published_reports():
    reference = {r: [1.0 + r / 10] for r in range(9)}
    ratio = median_ratio(reference, {r: [1.0] for r in range(9)})
    assert (ratio.point, ratio.low, ratio.high, ratio.rounds) == (1.4, 1.1, 1.7, 9)


def test_spread_and_drift_need_enough_blocks():
    assert relative_spread([1.0, 1.0, 1.0]) is None
    assert relative_spread([1.0, 1.0, 1.0, 1.0]) == 0.0
    assert relative_drift([1.0] * 5) is None
    assert relative_drift([1.0, 1.0, 1.0, 1.0, 1.1, 1.1]) == pytest.approx(0.1)

"""Speed-ups over processes and rounds: how often the interval holds the truth, by simulation."""

from dataclasses import replace
from math import exp, log

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.analysis.estimates import Ratio, half_width, judge
from foldbench.bench.analysis.ratios import (
    count_processes,
    difference_of,
    holm,
    paired_ratio,
    ratio_between,
)
from foldbench.bench.records import Block

Values = npt.NDArray[np.float64]

COMPARISONS = 1000
PROCESS, ROUND, BLOCK = 0.02, 0.015, 0.004
"""Standard deviations of the logarithm, like those measured on a shared machine."""


def logs_of_tables(
    rows: int, processes: int, rounds: int, process_sd: float, noise: str, seed: int = 0
) -> Values:
    """Return log ratios (COMPARISONS, rows, processes, rounds), whose truth is 0.

    The baseline's processes and blocks are those of all rows of a comparison.
    """
    rng = np.random.default_rng(seed)
    shape = (COMPARISONS, rows + 1, processes, rounds)

    def side() -> Values:
        if noise == "two-state processes":
            of_process = process_sd * rng.choice([-1.0, 1.0], (*shape[:3], 1))
        else:
            of_process = process_sd * rng.standard_normal((*shape[:3], 1))
        of_round = rng.standard_normal(shape)
        if noise == "skewed":
            of_round = rng.exponential(1, shape) - 1
        elif noise == "two-state rounds":
            of_round = rng.choice([-1.0, 1.0], shape) + 0.2 * rng.standard_normal(shape)
        elif noise == "outliers":
            of_round = of_round + 20 * (rng.random(shape) < 0.03)
        return of_process + ROUND / 2**0.5 * of_round + BLOCK * rng.standard_normal(shape)

    seconds = side()
    return seconds[:, :1] - seconds[:, 1:]


def ratios_of(logs: Values) -> list[list[Ratio]]:
    """Return the ratio of each row of each comparison."""
    medians = np.median(logs, axis=3)
    rounds = logs.shape[2] * logs.shape[3]
    return [[ratio_between(row.tolist(), rounds) for row in table] for table in medians]


def coverage(rows: list[list[Ratio]]) -> float:
    held = [(r.low or 0.0) <= 1 <= (r.high or 0.0) for table in rows for r in table]
    return float(np.mean(held))


NOISES = ("normal", "skewed", "two-state rounds", "two-state processes", "outliers")


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("processes", "rounds"), [(3, 1), (3, 2), (3, 20), (4, 5), (5, 3), (8, 3)])
def test_95_of_100_intervals_hold_the_truth(processes: int, rounds: int, noise: str) -> None:
    found = ratios_of(logs_of_tables(2, processes, rounds, PROCESS / 2**0.5, noise))
    assert 0.93 <= coverage(found) <= 0.97


@pytest.mark.parametrize("noise", [name for name in NOISES if name != "two-state processes"])
@pytest.mark.parametrize(("processes", "rounds"), [(3, 7), (4, 5), (8, 3)])
def test_processes_that_do_not_differ_cost_no_coverage_and_little_width(
    processes: int, rounds: int, noise: str
) -> None:
    found = ratios_of(logs_of_tables(2, processes, rounds, 0.0, noise))
    assert 0.93 <= coverage(found) <= 0.97
    pooled = 1.96 * ROUND / (processes * rounds) ** 0.5
    widths = [half_width(ratio) or 0.0 for table in found for ratio in table]
    if noise == "normal":
        assert pooled < np.median(widths) < 3 * pooled


def repeated(logs: Values, repetitions: int) -> Ratio:
    """Return the estimate of (processes, rounds) log ratios, whose processes are of repetitions."""
    blocks = [
        replace(block, repeat=1 + repetitions * (block.process - 1) // len(logs))
        for block in blocks_of(np.exp(-logs))
    ]
    ratio = paired_ratio(blocks, blocks_of(np.ones_like(logs)))
    assert ratio is not None
    return ratio


@pytest.mark.parametrize("repetitions", [3, 5])
def test_repetitions_cover_what_the_machine_changes_by_over_minutes(repetitions: int) -> None:
    logs = logs_of_tables(1, 4 * repetitions, 2, PROCESS / 2**0.5, "normal")[:400, 0]
    drift = 0.028 * np.random.default_rng(1).standard_normal((len(logs), repetitions))
    logs = logs + np.repeat(drift, 4, axis=1)[:, :, None]
    for made, held in ((repetitions, (0.93, 0.97)), (1, (0.0, 0.85))):
        found = coverage([[repeated(one, made)] for one in logs])
        assert held[0] <= found <= held[1]


def test_rounds_alone_do_not_cover_what_differs_between_processes() -> None:
    logs = logs_of_tables(1, 1, 20, PROCESS, "normal")[:, 0, 0]
    error = logs.std(axis=1, ddof=1) / 20**0.5
    assert np.mean(np.abs(logs.mean(axis=1)) <= 2.09 * error) < 0.5


def verdicts(table: list[Ratio]) -> list[str | None]:
    """Return what a report's first sentence says of each row but the last, which is the A/A."""
    *rows, again = table
    adjusted = holm([row.p_value for row in rows])
    floor = abs(again.point - 1)
    return [
        judge(row, floor) if p is not None and p <= 0.05 else "no difference resolved"
        for row, p in zip(rows, adjusted, strict=True)
    ]


@pytest.mark.parametrize("process_sd", [PROCESS, 2 * PROCESS, 0.0])
@pytest.mark.parametrize("noise", NOISES)
def test_of_100_tables_5_at_most_call_something_faster_that_is_not(
    noise: str, process_sd: float
) -> None:
    found = ratios_of(logs_of_tables(7, 4, 5, process_sd, noise))
    wrong = [any(v != "no difference resolved" for v in verdicts(table)) for table in found]
    assert np.mean(wrong) <= 0.05


def test_what_is_a_third_faster_is_found_among_rows_that_are_not() -> None:
    logs = logs_of_tables(7, 5, 4, PROCESS / 2**0.5, "normal")
    logs[:, 0] += log(1.33)
    first = [verdicts(table)[0] for table in ratios_of(logs)]
    assert np.mean([verdict == "faster" for verdict in first]) > 0.9
    assert "slower" not in first


def blocks_of(times: Values) -> list[Block]:
    """Return blocks of (processes, rounds) seconds, their rounds numbered through."""
    return [
        Block(round=1 + i * times.shape[1] + j, process=i + 1, samples_s=(float(s),))
        for i, row in enumerate(times)
        for j, s in enumerate(row)
    ]


seconds = st.floats(1e-4, 1e2)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Values, Values]:
    shape = draw(st.integers(3, 6)), draw(st.integers(1, 5))
    size = shape[0] * shape[1]
    drawn = draw(st.lists(seconds, min_size=2 * size, max_size=2 * size))
    mine, theirs = np.asarray(drawn).reshape(2, *shape)
    return mine, theirs


@given(pairs())
def test_the_interval_holds_the_point_and_agrees_with_its_p_value(pair) -> None:
    ratio = paired_ratio(*map(blocks_of, pair))
    assert ratio is not None
    assert ratio.covers_processes
    assert (ratio.processes, ratio.rounds) == (pair[0].shape[0], pair[0].size)
    low, high, p_value = ratio.low, ratio.high, ratio.p_value
    assert low is not None
    assert high is not None
    assert p_value is not None
    assert low <= ratio.point <= high
    assert 0 <= p_value <= 1
    if abs(p_value - 0.05) > 1e-6:
        assert (p_value < 0.05) == (high < 1 or low > 1)


@given(pairs())
def test_swapping_both_sides_inverts_the_ratio_and_its_interval(pair) -> None:
    mine, theirs = map(blocks_of, pair)
    there, back = paired_ratio(mine, theirs), paired_ratio(theirs, mine)
    assert there is not None
    assert back is not None
    assert there.point == pytest.approx(1 / back.point)
    assert there.low == pytest.approx(1 / (back.high or 1.0))
    assert there.p_value == pytest.approx(back.p_value)


@given(pairs(), st.floats(0.01, 100))
def test_the_unit_of_time_and_the_order_of_processes_do_not_matter(pair, unit) -> None:
    mine, theirs = pair
    ratio = paired_ratio(blocks_of(mine), blocks_of(theirs))
    other = paired_ratio(blocks_of(unit * mine[::-1]), blocks_of(unit * theirs[::-1]))
    assert ratio is not None
    assert other is not None
    assert other.point == pytest.approx(ratio.point)
    assert other.high == pytest.approx(ratio.high)


@given(pairs())
def test_the_estimate_is_student_s_over_the_medians_of_the_processes(pair) -> None:
    from scipy.stats import ttest_1samp

    logs = np.median(np.log(pair[1] / pair[0]), axis=1)
    ratio = paired_ratio(*map(blocks_of, pair))
    assert ratio is not None
    assert ratio.point == pytest.approx(exp(logs.mean()))
    if logs.std() > 1e-9:
        expected = ttest_1samp(logs, 0)
        assert ratio.p_value == pytest.approx(expected.pvalue, abs=1e-9)
        assert log(ratio.high or 1) == pytest.approx(expected.confidence_interval().high)


def test_fewer_than_three_processes_get_a_bootstrap_that_does_not_cover_processes() -> None:
    times = np.random.default_rng(0).lognormal(0, 0.02, (2, 10))
    ratio = paired_ratio(blocks_of(times / 2), blocks_of(times))
    assert ratio is not None
    assert ratio.low is not None
    assert (ratio.processes, ratio.covers_processes) == (2, False)
    assert (ratio.p_value or 1.0) < 0.01


def test_an_interruption_and_a_repetition_begin_new_processes() -> None:
    times = np.full((1, 4), 2.0)
    where = [(1, 1, 1), (2, 1, 1), (2, 1, 2), (2, 2, 1)]
    mine, theirs = (
        [
            Block(round=n, session=s, repeat=r, process=p, samples_s=(t,))
            for n, (s, r, p) in enumerate(where)
        ]
        for t in (1.0, 2.0)
    )
    assert count_processes(blocks_of(times)) == 1
    assert count_processes(mine) == 4
    ratio = paired_ratio(mine, theirs)
    assert ratio is not None
    assert (ratio.point, ratio.processes) == (pytest.approx(2), 4)


def test_a_process_without_a_clean_round_does_not_count() -> None:
    mine, theirs = blocks_of(np.full((4, 2), 1.0)), blocks_of(np.full((4, 2), 2.0))
    dirty = [
        Block(round=b.round, process=1, samples_s=(9.0,), run_delay_ratio=0.5) for b in mine[:2]
    ]
    ratio = paired_ratio([*dirty, *mine[2:]], theirs)
    assert ratio is not None
    assert (ratio.point, ratio.processes) == (pytest.approx(2), 3)


@given(st.lists(st.none() | st.floats(0, 1), max_size=8))
def test_holms_p_values_never_fall_and_keep_their_order(p_values) -> None:
    adjusted = holm(p_values)
    known = [(p, a) for p, a in zip(p_values, adjusted, strict=True) if p is not None]
    assert [a is None for a in adjusted] == [p is None for p in p_values]
    assert all(a is not None and p <= a <= min(1.0, p * len(known)) for p, a in known)
    in_order = [a for _, a in sorted(known)]
    assert in_order == sorted(in_order)


def test_two_runs_ratios_are_told_apart_by_welchs_t() -> None:
    from scipy.stats import ttest_ind

    a, b = np.log([2.0, 2.1, 1.9, 2.05]), np.log([2.4, 2.3, 2.6])
    ratio, expected = difference_of(a, b, 15), ttest_ind(b, a, equal_var=False)
    assert ratio.point == pytest.approx(exp(b.mean() - a.mean()))
    assert ratio.p_value == pytest.approx(expected.pvalue)
    assert log(ratio.low or 1) == pytest.approx(expected.confidence_interval().low)
    assert (ratio.processes, ratio.rounds) == (3, 15)

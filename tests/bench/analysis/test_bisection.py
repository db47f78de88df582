"""Halving of versions and of a network; answers that differ."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.analysis.bisection import (
    Tried,
    check_answers,
    halve,
    most_verdicts,
    narrow,
)
from foldbench.bench.analysis.gate import Check


def judge_of(versions: list[str], first_bad: int, skipped: set[str], unclear: set[str]):
    def judge(version: str) -> Tried:
        if version in skipped:
            return Tried(version, reason="no wheel")
        worse = "worse" if versions.index(version) >= first_bad else "not worse"
        return Tried(version, Check("latency", "cannot tell" if version in unclear else worse, 0.1))

    return judge


@given(st.integers(2, 40), st.data())
def test_halving_ends_with_the_usable_neighbours_of_the_change(count: int, data) -> None:
    versions = [f"1.{number}" for number in range(count)]
    first_bad = data.draw(st.integers(1, count), label="first bad")
    skipped = data.draw(st.sets(st.sampled_from(versions[1:])), label="skipped")
    found = halve(versions, judge_of(versions, first_bad, skipped, set()))
    usable = [version for version in versions if version not in skipped]
    bad = [version for version in usable if versions.index(version) >= first_bad]
    good = [version for version in usable if versions.index(version) < first_bad]
    assert found.bad == (bad[0] if bad else None)
    assert found.good == good[-1]
    asked = [one.version for one in found.tried]
    assert len(set(asked)) == len(asked)
    assert sum(one.check is not None for one in found.tried) <= most_verdicts(count)


@given(st.integers(3, 40), st.data())
def test_a_version_that_cannot_be_told_ends_it_with_the_change_still_between(
    count: int, data
) -> None:
    versions = [f"1.{number}" for number in range(count)]
    first_bad = data.draw(st.integers(1, count - 1))
    unclear = data.draw(st.sets(st.sampled_from(versions[1:-1])))
    found = halve(versions, judge_of(versions, first_bad, set(), unclear))
    assert found.bad is not None
    assert versions.index(found.good) < first_bad <= versions.index(found.bad)
    stopped = [one for one in found.tried if one.outcome == "cannot tell"]
    assert all(one is found.tried[-1] for one in stopped)


def test_a_newest_version_that_cannot_be_told_leaves_everything_open() -> None:
    versions = ["1.0", "1.1", "1.2"]
    found = halve(versions, judge_of(versions, 1, set(), {"1.2"}))
    assert (found.good, found.bad, len(found.tried)) == ("1.0", None, 1)


@given(st.integers(2, 60), st.data())
def test_the_smallest_part_is_found_in_a_logarithmic_number_of_questions(count: int, data) -> None:
    end = data.draw(st.integers(1, count - 1))
    begin = data.draw(st.integers(0, end - 1))
    asked = []

    def shows(first: int, last: int) -> bool:
        asked.append((first, last))
        return first <= begin and last >= end

    assert narrow(count, shows) == (begin, end)
    assert len(asked) <= 2 * count.bit_length()


@pytest.mark.parametrize(
    ("head", "again", "outcome", "change"),
    [
        ([1.0, -2.0], [1.0, -2.0], "not worse", 0.0),
        ([1.0, -2.1], [1.0, -2.0], "worse", 0.05),
        ([1.0, -2.01], [1.0, -2.0], "not worse", 0.005),
        ([1.0, np.nan], [1.0, -2.0], "worse", None),
        ([1.0, -2.1], [1.0, -2.02], "cannot tell", 0.05),
        ([1.0, np.inf], [np.nan, -2.0], "cannot tell", None),
    ],
)
def test_answers_are_worse_when_they_differ_by_more_than_is_allowed(
    head: list[float], again: list[float], outcome: str, change: float | None
) -> None:
    arrays = [np.array([values], np.float32) for values in ([1.0, -2.0], again, head)]
    found = check_answers(*arrays, allowed=0.01)
    assert found.outcome == outcome
    assert found.change == (None if change is None else pytest.approx(change, abs=1e-6))

"""The highest rate of arrivals that a server holds: a search with repeated verdicts."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from foldbench.bench.analysis.estimates import calls_needed, percentile
from foldbench.bench.samples.load import LoadTest

KNOWN_WITHIN = 0.05
"""The search ends when the lowest rate that does not hold is this little above the highest that
does."""
_DOUBLINGS = 12
_WINS = 2
"""Tests that have to agree on a rate, of three at the most."""


def arrivals_needed(at: float) -> int:
    """Return the arrivals of a test that says something of the percentile `at`, 200 or more."""
    return max(200, calls_needed(at))


def holds(test: LoadTest, at: float, within_s: float) -> bool:
    """Return whether the percentile `at` of a test is within the bound.

    A test that was given up, or has too few answers for the percentile, does not hold.
    """
    found = percentile(test.latencies_s, at)
    return test.unanswered == 0 and found is not None and found <= within_s


@dataclass(frozen=True)
class Bracket:
    """What a search found."""

    holds_per_s: float | None
    """Highest rate that holds; None where none of those that were tried does."""
    fails_per_s: float | None
    """Lowest rate above it that does not; None where all of those that were tried hold."""


def search(start_per_s: float) -> Generator[float, bool, Bracket]:
    """Yield rates to test and take whether each holds; return the bracket.

    Doubles or halves from `start_per_s` until a rate holds and twice that does not, then bisects
    evenly by ratio until they are KNOWN_WITHIN. Each rate is tested until two tests agree.
    """
    low: float | None = None
    high: float | None = None
    rate = start_per_s
    for _ in range(_DOUBLINGS):
        if (yield from _agreed(rate)):
            low = rate
        else:
            high = rate
        if low is not None and high is not None:
            break
        rate = rate * 2 if low is not None else rate / 2
    while low is not None and high is not None and high > (1 + KNOWN_WITHIN) * low:
        middle = (low * high) ** 0.5
        if (yield from _agreed(middle)):
            low = middle
        else:
            high = middle
    return Bracket(low, high)


def _agreed(rate_per_s: float) -> Generator[float, bool, bool]:
    """Test a rate until two tests agree; return what they say."""
    seen: list[bool] = []
    while seen.count(True) < _WINS and seen.count(False) < _WINS:
        seen.append((yield rate_per_s))
    return seen.count(True) == _WINS


@dataclass(frozen=True)
class RateRow:
    """All tests of one rate together."""

    rate_per_s: float
    tests: int
    held: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    batch: float | None
    """Images of a call, the mean."""
    given_up: int


def rate_rows(tests: Sequence[LoadTest], at: float, within_s: float) -> list[RateRow]:
    """Return a row for each rate, the lowest first."""
    rows = []
    for rate in sorted({test.rate_per_s for test in tests}):
        same = [test for test in tests if test.rate_per_s == rate]
        latencies = [seconds for test in same for seconds in test.latencies_s]
        calls = sum(test.calls for test in same)
        rows.append(
            RateRow(
                rate_per_s=rate,
                tests=len(same),
                held=sum(holds(test, at, within_s) for test in same),
                p50_s=percentile(latencies, 0.5),
                p95_s=percentile(latencies, 0.95),
                p99_s=percentile(latencies, 0.99),
                batch=len(latencies) / calls if calls else None,
                given_up=sum(test.unanswered > 0 for test in same),
            )
        )
    return rows

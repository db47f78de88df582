"""Speed-ups as `bench.analysis.ratios` estimates them, by the standard library and numpy alone."""

from collections.abc import Sequence
from math import cos, exp, pi, sin, sqrt, tan
from statistics import fmean, median, stdev

from foldbench.bench.samples.ratios import independent_logs, logs_by_process
from foldbench.bench.samples.timing import MIN_PROCESSES, Block

Estimate = tuple[float, float | None, float | None]
"""A ratio, and the ends of its 95 % interval."""


def estimate_speedup(blocks: Sequence[Block], reference: Sequence[Block]) -> Estimate | None:
    """Return the speed-up of `blocks` over `reference`; None when no round has both clean.

    The interval is between processes, or between repetitions where they are enough; with fewer than
    MIN_PROCESSES processes there is none, and the ratio is the median over rounds.
    """
    logs = logs_by_process(blocks, reference)
    if not logs:
        return None
    if len(logs) < MIN_PROCESSES:
        return exp(median(value for process in logs.values() for value in process)), None, None
    values = independent_logs(logs)
    half = student_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))
    mean = fmean(values)
    return exp(mean), exp(mean - half), exp(mean + half)


def student_quantile(freedom: int, share: float = 0.95) -> float:
    """Return the t within which Student's t, with `freedom` of 1 and more, lies with a probability.

    By halving; the probability is a finite sum (M. Abramowitz, I. A. Stegun, Handbook of
    Mathematical Functions, 1964, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, freedom) < share else (low, middle)
    return sqrt(freedom) * tan(low)


def _within(angle: float, freedom: int) -> float:
    """Return the probability of ``|t| <= sqrt(freedom) * tan(angle)``."""
    is_odd = freedom % 2
    term, total = (cos(angle), 0.0) if is_odd else (1.0, 0.0)
    for number in range(2 + is_odd, freedom + 1, 2):
        total += term
        term *= (number - 1) / number * cos(angle) ** 2
    total *= sin(angle)
    return 2 / pi * (angle + total) if is_odd else total

"""Speed-ups as `bench.analysis.ratios` estimates them, by the standard library and numpy alone."""

from collections.abc import Sequence
from math import exp, lgamma, pi, sqrt, tan
from statistics import fmean, median

import numpy as np

from foldbench.bench.samples.ratios import (
    ASSUMED_FREEDOM,
    combined,
    independent_logs,
    logs_by_process,
    variance_of_mean,
)
from foldbench.bench.samples.timing import MIN_PROCESSES, Block

Estimate = tuple[float, float | None, float | None]
"""A ratio, and the ends of its 95 % interval."""


_NODES = np.polynomial.legendre.leggauss(64)


def estimate_speedup(
    blocks: Sequence[Block], reference: Sequence[Block], assumed_sd: float = 0.0
) -> Estimate | None:
    """Return the speed-up of `blocks` over `reference`; None when no round has both clean.

    The interval covers what differs between processes, and what comparisons are assumed to differ
    by; with fewer than MIN_PROCESSES processes there is none, and the ratio is the median over
    rounds.
    """
    logs = logs_by_process(blocks, reference)
    if not logs:
        return None
    if len(logs) < MIN_PROCESSES:
        return exp(median(value for process in logs.values() for value in process)), None, None
    values = independent_logs(logs)
    parts = [(variance_of_mean(values), len(values) - 1), (assumed_sd**2, ASSUMED_FREEDOM)]
    variance, freedom = combined(parts)
    half, mean = student_quantile(freedom) * sqrt(variance), fmean(values)
    return exp(mean), exp(mean - half), exp(mean + half)


def student_quantile(freedom: float, share: float = 0.95) -> float:
    """Return the t within which Student's t, with `freedom` of 1 and more, lies with a probability.

    By halving.
    """
    low, high = 0.0, pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, freedom) < share else (low, middle)
    return sqrt(freedom) * tan(low)


def _within(angle: float, freedom: float) -> float:
    """Return the probability of ``|t| <= sqrt(freedom) * tan(angle)``.

    With ``t = sqrt(freedom) * tan(x)``, the density is that of cos(x) to the power of
    ``freedom - 1``, which is integrated by Gauss and Legendre.
    """
    points, weights = _NODES
    found = angle / 2 * float(weights @ np.cos(angle * (points + 1) / 2) ** (freedom - 1))
    return found * 2 / sqrt(pi) * exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2))

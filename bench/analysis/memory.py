"""Whether a network leaks: growth per call as a slope with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Literal

import numpy as np

from foldbench.bench.records import MemoryUse

LEAST_CALLS = 2000
"""Over fewer calls an allocator that settles cannot be told from a leak."""
_SETTLING = 1 / 4
"""Of the readings, the share at the beginning that is left out."""
_LEAST_BYTES = 64 * 1024
"""Growth in all below which nothing is called a leak: sixteen pages."""

Growth = Literal["leaks", "no leak found"]


@dataclass(frozen=True)
class Slope:
    """Growth per call with a 95 % interval, bytes."""

    point: float
    low: float
    high: float
    calls: int
    verdict: Growth | None
    """None over fewer than LEAST_CALLS calls."""


def growth_of(use: MemoryUse) -> Slope | None:
    """Return what each call adds to the memory of a process; None with too few readings.

    The mean of the increments between readings, with Student's t. A leak adds the same each time,
    so its interval is narrow; an allocator that takes one more arena adds once, and its interval
    holds 0. The first quarter is left out, while caches fill.
    """
    held = use.held_bytes[int(len(use.held_bytes) * _SETTLING) :]
    if len(held) < 5:
        return None
    calls = use.calls_each * (len(use.held_bytes) - 1)
    point, low, high = _mean_with_interval([b - a for a, b in pairwise(held)])
    each = use.calls_each
    slope = point / each, low / each, high / each
    if calls < LEAST_CALLS:
        return Slope(*slope, calls, None)
    leaks = low > 0 and held[-1] - held[0] >= _LEAST_BYTES
    return Slope(*slope, calls, "leaks" if leaks else "no leak found")


def _mean_with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    from scipy.special import stdtrit

    found = np.asarray(values, float)
    mean, error = float(found.mean()), float(found.std(ddof=1)) / sqrt(len(found))
    half = float(stdtrit(len(found) - 1, 0.975)) * error
    return mean, mean - half, mean + half

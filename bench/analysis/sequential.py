"""A sequential test of paired log ratios: worse than allowed, not worse, or not known yet.

Two processes of the same network differ for as long as they live, so the unit is a generation of
processes: one of BASE, one more of BASE and one of HEAD, timed in the same rounds. A generation
gives the change ``log(head) - (log(base) + log(again)) / 2`` and the control
``log(again) - log(base)``, which are uncorrelated where processes are alike.

After each generation from the third on the mean change is set against the allowed one by Student's
t. Every look has the same nominal level (S. J. Pocock, Biometrika 64, 1977), such that over all
looks the test errs with the stated probability. The intervals are repeated confidence intervals
(C. Jennison, B. W. Turnbull, J. R. Stat. Soc. B 51, 1989): the rates hold whenever a job ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log1p, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

Outcome = Literal["worse", "not worse", "cannot tell"]

FIRST_LOOK = 3
"""Generations before anything is decided: two give no idea of how much processes differ."""
_PATHS = 20_000
_CONTROL_WEIGHT = 0.75
"""Variance of a change over that of a control, where processes of both networks are alike."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SequentialTest:
    """What is allowed, how often the test may err, and how many generations there can be."""

    allowed: float
    """As a share: 0.02 is 2 % more."""
    alpha: float
    """Most often that a change up to the allowed one is called worse."""
    beta: float
    """Most often that a larger change is called not worse."""
    most: int
    """Looks are taken up to here."""


@dataclass(frozen=True)
class Judged:
    """What is known after some generations; changes are shares, such as 0.02 for 2 % more."""

    outcome: Outcome
    generations: int
    change: float | None
    """Estimated; None before the first generation."""
    low: float | None
    """The change is larger than this, at level alpha; None before FIRST_LOOK."""
    high: float | None
    """The change is smaller than this, at level beta."""
    smallest: float | None
    """Smallest change that a job with all its generations calls worse with probability 1 - beta,
    as these generations vary."""
    control: float | None
    """By how much BASE seemed to differ from itself."""
    control_differs: bool = False
    """Whether that is called a difference: then there is no outcome."""


def judge_changes(
    changes: Sequence[float], controls: Sequence[float], test: SequentialTest
) -> Judged:
    """Return what the generations so far tell; both are (N,) logarithms, in pairs.

    The variance is that of the changes, or its mean with what the controls predict for it where
    that is larger: a few changes that happen to agree are no proof.
    """
    count = len(changes)
    if count == 0:
        return Judged("cannot tell", 0, None, None, None, None, None)
    mean, control = float(np.mean(changes)), float(np.mean(controls))
    if count < FIRST_LOOK:
        change = float(np.expm1(mean))
        return Judged("cannot tell", count, change, None, None, None, float(np.expm1(control)))
    error = sqrt(_variance(np.asarray(changes), np.asarray(controls)) / count)
    most = max(test.most, count)
    below = _quantile(nominal_level(test.alpha, most), count) * error
    above = _quantile(nominal_level(test.beta, most), count) * error
    allowed = log1p(test.allowed)
    differs = _differs(np.asarray(controls), test, most)
    outcome: Outcome = "cannot tell"
    if not differs and mean - below > allowed:
        outcome = "worse"
    elif not differs and mean + above <= allowed:
        outcome = "not worse"
    return Judged(
        outcome=outcome,
        generations=count,
        change=float(np.expm1(mean)),
        low=float(np.expm1(mean - below)),
        high=float(np.expm1(mean + above)),
        smallest=float(np.expm1(allowed + _reach(error * sqrt(count), test, most))),
        control=float(np.expm1(control)),
        control_differs=differs,
    )


def _variance(changes: Values, controls: Values) -> float:
    own = float(changes.var(ddof=1))
    predicted = _CONTROL_WEIGHT * float(controls.var(ddof=1))
    return max(own, (own + predicted) / 2)


def _differs(controls: Values, test: SequentialTest, most: int) -> bool:
    """Return whether BASE differs from itself, by more than half of what is allowed."""
    count, mean = len(controls), abs(float(controls.mean()))
    error = float(controls.std(ddof=1)) / sqrt(count)
    reach = _quantile(nominal_level(test.alpha / 2, most), count) * error
    return mean > reach and mean > log1p(test.allowed) / 2


def _reach(deviation: float, test: SequentialTest, count: int) -> float:
    """Return how far beyond the allowed change one is found with probability 1 - beta."""
    level = nominal_level(test.alpha, count)
    return (_quantile(level, count) + _quantile(test.beta, count)) * deviation / sqrt(count)


def _quantile(level: float, count: int) -> float:
    from scipy.special import stdtrit

    return -float(stdtrit(count - 1, level))


@lru_cache(maxsize=64)
def nominal_level(error: float, most: int) -> float:
    """Return the one-sided level of each look that gives `error` over all looks up to `most`.

    By simulation of Student's t after 3, 4, ... `most` independent normal values, always the same.
    """
    return float(np.quantile(_least_p_values(most), error))


@lru_cache(maxsize=16)
def _least_p_values(most: int) -> Values:
    """Return the least p-value of all looks of each simulated job, (_PATHS,)."""
    from scipy.special import stdtr

    values = np.random.default_rng(0).standard_normal((_PATHS, most))
    counts = np.arange(1, most + 1)
    means = values.cumsum(1) / counts
    squares = (values**2).cumsum(1) - counts * means**2
    looked = slice(FIRST_LOOK - 1, most)
    n = counts[looked]
    t = means[:, looked] / np.sqrt(squares[:, looked] / (n - 1) / n)
    least: Values = stdtr(n - 1, -t).min(1)
    return least

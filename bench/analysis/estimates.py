"""Statistics over plain numbers: intervals of shares, percentiles, paired ratios.

Pure functions of their arguments; nothing is rounded, and a value that does not exist is None.
SciPy is imported where it is called: processes that are timed use this module, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, sqrt
from statistics import NormalDist, median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from foldbench.bench.samples.timing import MIN_PROCESSES as MIN_PROCESSES
from foldbench.bench.samples.timing import RESOLUTION as RESOLUTION

MIN_SAMPLES_BEYOND = 10
"""Samples expected above a percentile before it is given."""

MIN_ROUNDS_FOR_INTERVAL = 5
"""Rounds before a ratio gets an interval: fewer can be resampled in too few different ways."""

MIN_CLEAN_ROUNDS = 8
"""Clean rounds of fewer than MIN_PROCESSES processes before a ratio is an estimate; below, only the
ratio of the floors is given."""

Verdict = Literal["faster", "slower", "no difference resolved"]


@dataclass(frozen=True)
class Ratio:
    """How many times faster than a reference, with a 95 % interval where there is one."""

    point: float
    low: float | None
    high: float | None
    rounds: int
    """Rounds in which both were timed."""
    processes: int = 1
    """Processes of each that timed these rounds."""
    p_value: float | None = None
    """Of the hypothesis that the ratio is 1, two-sided; None without an interval."""
    covers_comparisons: bool = False
    """Whether the interval covers what is known, or assumed, to differ between comparisons."""

    @property
    def covers_processes(self) -> bool:
        """Whether the interval covers what differs between processes of the same network."""
        return self.low is not None and self.processes >= MIN_PROCESSES


def balanced_accuracy(labels: npt.ArrayLike, answers: npt.ArrayLike, classes: int) -> float:
    """Return the mean over classes of the share of each class's images that are right, 0..1."""
    expected, predicted = np.asarray(labels), np.asarray(answers)
    shares = [float((predicted[expected == c] == c).mean()) for c in range(classes)]
    return float(np.mean(shares))


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of the share ``correct / total``, within 0..1.

    Raises ValueError unless ``0 <= correct <= total`` and ``total > 0``.
    Source: E. B. Wilson, Probable inference, J. Am. Stat. Assoc. 22 (1927).
    """
    from scipy.stats import binomtest

    low, high = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def median_or_none(samples: Sequence[float]) -> float | None:
    """Return the median, in the samples' unit; None when there are none."""
    return float(median(samples)) if len(samples) else None


def calls_needed(q: float) -> int:
    """Return how many samples the percentile `q` (0 < q < 1) needs: 200 for 0.95.

    Of n samples about ``n * (1 - q)`` lie above it, give or take the square root of that number
    (a binomial count): with ten, their share is known to within a third; with one, the
    "percentile" is the largest sample by another name.
    """
    return ceil(MIN_SAMPLES_BEYOND / (1 - q) - 1e-6)


def percentile(samples: Sequence[float], q: float) -> float | None:
    """Return the quantile `q` (0 < q < 1), in the samples' unit, interpolated linearly.

    None when there are fewer than `calls_needed(q)` samples.
    """
    return float(np.quantile(samples, q)) if len(samples) >= calls_needed(q) else None


def relative_spread(samples: Sequence[float]) -> float | None:
    """Return the interquartile range divided by the median; None for fewer than four samples."""
    if len(samples) < 4:
        return None
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    return float((high - low) / middle) if middle > 0 else None


def relative_range(samples: Sequence[float]) -> float | None:
    """Return (largest - smallest) / median; None for fewer than two samples."""
    if len(samples) < 2:
        return None
    middle = float(median(samples))
    return (max(samples) - min(samples)) / middle if middle > 0 else None


def relative_drift(samples: Sequence[float]) -> float | None:
    """Return median(last third) / median(first third) - 1; None for fewer than six samples."""
    third = len(samples) // 3
    if third < 2:
        return None
    first, last = float(median(samples[:third])), float(median(samples[-third:]))
    return last / first - 1 if first > 0 else None


def median_ratio(
    reference_blocks: Mapping[int, Sequence[float]],
    blocks: Mapping[int, Sequence[float]],
    draws: int = 2000,
    seed: int = 0,
    processes: int = 1,
) -> Ratio | None:
    """Return the speed-up of `blocks` over `reference_blocks`: above 1 is faster.

    Both map a round to the seconds of its calls. Each round that has both gives
    ``median(reference) / median(contender)``; the point is the median over rounds, and the
    interval a 95 % percentile bootstrap over rounds, since calls of one block are not independent
    (B. Efron, R. Tibshirani, An introduction to the bootstrap, 1993, chapter 13). None when no
    round has both; no interval below MIN_ROUNDS_FOR_INTERVAL rounds. It says nothing of what
    another process would have given; `processes` is noted in the result.
    """
    rounds = sorted(reference_blocks.keys() & blocks.keys())
    pairs = ((tuple(reference_blocks[r]), tuple(blocks[r])) for r in rounds)
    return _median_ratio(tuple(pair for pair in pairs if all(pair)), draws, seed, processes)


@lru_cache(maxsize=512)
def _median_ratio(
    pairs: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...],
    draws: int,
    seed: int,
    processes: int,
) -> Ratio | None:
    """Return the ratio of pairs of blocks, which a report asks for in each of its tables."""
    medians = [(median(baseline), median(block)) for baseline, block in pairs]
    ratios = np.array([baseline / candidate for baseline, candidate in medians if candidate > 0])
    if not len(ratios):
        return None
    point = float(np.median(ratios))
    if len(ratios) < MIN_ROUNDS_FOR_INTERVAL:
        return Ratio(point, None, None, len(ratios), processes)
    drawn = _bootstrap((ratios,), np.median, draws, seed)
    low, high = np.quantile(drawn, (0.025, 0.975))
    beyond = min(np.count_nonzero(drawn <= 1), np.count_nonzero(drawn >= 1))
    p_value = min(1.0, 2 * (1 + int(beyond)) / (1 + len(drawn)))
    return Ratio(point, float(low), float(high), len(ratios), processes, p_value)


def bootstrap_interval(
    samples: Sequence[npt.NDArray[np.float64]],
    statistic: Callable[..., Any],
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """Return a 95 % percentile bootstrap interval of ``statistic(*samples, axis=...)``.

    Each of `samples`, (N,) with N > 1, is drawn from apart. The ends are NumPy's quantiles of the
    draws, which never leave their range by rounding as SciPy's own do.
    """
    low, high = np.quantile(_bootstrap(samples, statistic, draws, seed), (0.025, 0.975))
    return float(low), float(high)


def _bootstrap(
    samples: Sequence[npt.NDArray[np.float64]],
    statistic: Callable[..., Any],
    draws: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(seed)
    found = bootstrap(samples, statistic, n_resamples=draws, method="percentile", rng=rng)
    return np.asarray(found.bootstrap_distribution, float)


def best_case_ratio(reference_s: Sequence[float], samples_s: Sequence[float]) -> float | None:
    """Return the ratio of the 5 % quantiles, reference over contender; None without samples.

    What both take when left alone: the fallback where nothing was clean. It says nothing of how
    sure it is.
    """
    if not len(reference_s) or not len(samples_s):
        return None
    candidate = float(np.quantile(samples_s, 0.05))
    return float(np.quantile(reference_s, 0.05)) / candidate if candidate > 0 else None


def half_width(ratio: Ratio) -> float | None:
    """Return how far the interval reaches from the point, relative to it, on the longer side."""
    if ratio.low is None or ratio.high is None:
        return None
    return max(ratio.high - ratio.point, ratio.point - ratio.low) / ratio.point


def judge(ratio: Ratio, floor: float) -> Verdict | None:
    """Return what a speed-up may be called, None without an interval.

    A difference counts when the point is further from 1 than RESOLUTION, and the whole interval
    lies on one side of 1 and further from it than `floor`, by which the reference differed from
    itself: a row whose truth is known, and which catches what no interval of one comparison can,
    such as a machine that changed between generations.
    """
    if ratio.low is None or ratio.high is None:
        return None
    distance = max(ratio.low - 1, 1 - ratio.high)  # below 0 where the interval holds 1
    if distance <= floor or distance < 0 or abs(ratio.point - 1) <= RESOLUTION:
        return "no difference resolved"
    return "faster" if ratio.point > 1 else "slower"


def largest_gap(samples: Sequence[float], share: float = 0.2) -> float | None:
    """Return the largest gap between neighbours in order, relative to the lower one.

    Only gaps count that leave at least `share` of the samples on either side: a sign of two states
    rather than of outliers. None for fewer than ten samples.
    """
    if len(samples) < 10:
        return None
    ordered = np.sort(np.asarray(samples, float))
    edge = ceil(share * len(ordered))
    inner = ordered[edge - 1 : len(ordered) - edge + 1]
    return float((np.diff(inner) / inner[:-1]).max())


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the p-value of McNemar's exact test, two-sided: 0..1.

    Of the items that just one of two classifiers gets wrong, `only_a` and `only_b`, either is as
    likely to be it if they are equally good; so the smaller count is binomial with one half
    (Q. McNemar, Psychometrika 12, 1947; in its exact form). 1.0 where they never disagree. Raises
    ValueError for a negative count.
    """
    if only_a == only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(min(only_a, only_b), only_a + only_b).pvalue)


Interval = tuple[float, float]
_Z = NormalDist().inv_cdf(0.975)


def unpaired_ratio(
    a_s: Sequence[float], b_s: Sequence[float], draws: int = 2000, seed: int = 0
) -> Ratio | None:
    """Return ``median(a_s) / median(b_s)`` of two runs' block medians, seconds.

    The interval is a 95 % percentile bootstrap that draws the blocks of each run apart, since a
    block of one has no partner in the other (B. Efron, R. Tibshirani, An introduction to the
    bootstrap, 1993, chapter 8: the two-sample problem). None when either is empty or not positive;
    no interval below MIN_ROUNDS_FOR_INTERVAL blocks.
    """
    if not len(a_s) or not len(b_s) or min(*a_s, *b_s) <= 0:
        return None
    of_a, of_b = np.asarray(a_s, float), np.asarray(b_s, float)
    point = float(np.median(of_a) / np.median(of_b))
    rounds = min(len(of_a), len(of_b))
    if rounds < MIN_ROUNDS_FOR_INTERVAL:
        return Ratio(point, None, None, rounds)

    def ratio_of_medians(
        a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], axis: int
    ) -> npt.NDArray[np.float64]:
        return np.median(a, axis=axis) / np.median(b, axis=axis)

    interval = bootstrap_interval((of_a, of_b), ratio_of_medians, draws, seed)
    return Ratio(point, *interval, rounds)


def paired_interval(gain: int, different: int, images: int) -> Interval:
    """Return a 95 % interval of the accuracy difference on the same images, shares of 1.

    `gain` is correct(B) - correct(A) and `different` the images that got another class. Bonett and
    Price's adjusted Wald interval for paired shares (J. Educ. Behav. Stat. 37, 2012) wants the
    images that only A and only B has right, c and b: ``b - c`` is `gain`, and ``b + c``, for which
    labels would be needed, is at most `different`, since an image whose class did not change is
    right in both or in neither. The interval is thus never narrower than labels would make it,
    and wider where many images are wrong in both runs in different ways.
    """
    total = images + 2
    centre = gain / total
    half = _Z * sqrt(max(0.0, (different + 2) / total - centre * centre) / total)
    return max(-1.0, centre - half), min(1.0, centre + half)


def unpaired_interval(correct_a: int, total_a: int, correct_b: int, total_b: int) -> Interval:
    """Return a 95 % interval of the accuracy difference B - A on unlike images, shares of 1.

    Newcombe's hybrid of two Wilson intervals (R. G. Newcombe, Stat. Med. 17, 1998, method 10).
    """
    of_a, of_b = correct_a / total_a, correct_b / total_b
    a_low, a_high = wilson_interval(correct_a, total_a)
    b_low, b_high = wilson_interval(correct_b, total_b)
    below = sqrt((of_b - b_low) ** 2 + (a_high - of_a) ** 2)
    above = sqrt((b_high - of_b) ** 2 + (of_a - a_low) ** 2)
    return of_b - of_a - below, of_b - of_a + above

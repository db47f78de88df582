"""Speed-ups of blocks that took turns: one estimate over processes and rounds, for every table.

Two processes of the same network differ for as long as they live, by more than their rounds do. So
the interval comes from between processes wherever there are enough of them: the logarithm of the
ratio in each round, the median of these over the rounds of a process, then the mean over processes
with Student's t (T. Kalibera, R. Jones, Rigorous benchmarking in reasonable time, ISMM 2013).

What varies within a process is in its median already, so the interval holds for any share of the
two, none included: then three processes give twice the width that pooled rounds would, four one
and a half times. Pooling where processes seem alike was simulated and is not done: it covers down
to 92 % where they differ a little, and relies on rounds that are independent of their neighbours.

A machine changes over minutes, which one comparison does not see. What that adds to a row is known
from earlier comparisons, or assumed (`between_comparisons`), and widens the interval by Welch's
formula. Where the comparison was repeated (`--repeat`, MIN_REPETITIONS times or more), Student's t
is between repetitions in its place, each the mean of its processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, sqrt

import numpy as np

from foldbench.bench.analysis.clean import clean_pairs
from foldbench.bench.analysis.estimates import MIN_CLEAN_ROUNDS, Ratio, Verdict, median_ratio
from foldbench.bench.records import BetweenComparisons
from foldbench.bench.samples.ratios import (
    Part,
    Process,
    combined,
    independent_logs,
    is_repeated,
    logs_by_process,
    process_of,
    variance_of_mean,
)
from foldbench.bench.samples.timing import MIN_PROCESSES, Block, is_clean

FAMILY_ERROR = 0.05
"""Of all tables, the share in which some verdict that is claimed may be wrong."""


def count_processes(blocks: Sequence[Block]) -> int:
    """Return how many processes timed clean `blocks`; of all blocks where none is clean."""
    clean = [block for block in blocks if is_clean(block.run_delay_ratio)]
    return len({process_of(block) for block in clean or blocks})


def estimated_ratio(
    blocks: Sequence[Block],
    reference: Sequence[Block],
    wanted: int,
    between_comparisons: BetweenComparisons | None = None,
) -> Ratio | None:
    """Return `paired_ratio` if it is of MIN_CLEAN_ROUNDS, or of all rounds that were `wanted`.

    An interval between processes holds however many rounds each had.
    """
    ratio = paired_ratio(blocks, reference, between_comparisons)
    if ratio is None or ratio.covers_processes:
        return ratio
    return ratio if ratio.rounds >= min(MIN_CLEAN_ROUNDS, wanted) else None


def paired_ratio(
    blocks: Sequence[Block],
    reference: Sequence[Block],
    between_comparisons: BetweenComparisons | None = None,
) -> Ratio | None:
    """Return the speed-up of `blocks` over `reference`, over rounds in which both are clean.

    With MIN_PROCESSES processes or more the interval covers what differs between them and between
    comparisons, or between repetitions where there are enough; below, it is a bootstrap over
    rounds, which covers one process alone. None when no round has both.
    """
    logs = logs_by_process(blocks, reference)
    if len(logs) < MIN_PROCESSES:
        mine, theirs = clean_pairs(blocks, reference)
        return median_ratio(theirs, mine, processes=max(1, len(logs)))
    parts = _parts_of(logs, between_comparisons)
    ratio = ratio_between(independent_logs(logs), _count(logs), parts)
    return replace(ratio, processes=len(logs), covers_comparisons=bool(parts))


def mean_and_variance(
    blocks: Sequence[Block], reference: Sequence[Block]
) -> tuple[float, float] | None:
    """Return the logarithm of the speed-up and its variance, of this comparison alone.

    None with fewer than MIN_PROCESSES processes, and where repetitions hold what comparisons
    differ by.
    """
    logs = logs_by_process(blocks, reference)
    if len(logs) < MIN_PROCESSES or is_repeated(logs):
        return None
    values = np.asarray(independent_logs(logs), float)
    return float(values.mean()), variance_of_mean(values)


@dataclass(frozen=True)
class Side:
    """What one comparison timed of a row."""

    blocks: Sequence[Block]
    reference: Sequence[Block]
    between_comparisons: BetweenComparisons | None = None


def changed_ratio(before: Side, after: Side) -> Ratio | None:
    """Return the speed-up `after` divided by that `before`.

    Student's t between the processes of both, or repetitions where there are enough, and what
    comparisons differ by; None where either has fewer than MIN_PROCESSES.
    """
    sides = before, after
    of_a, of_b = (logs_by_process(side.blocks, side.reference) for side in sides)
    if min(len(of_a), len(of_b)) < MIN_PROCESSES:
        return None
    rounds = min(_count(of_a), _count(of_b))
    parts = [
        part
        for side, logs in zip(sides, (of_a, of_b), strict=True)
        for part in _parts_of(logs, side.between_comparisons)
    ]
    return difference_of(independent_logs(of_a), independent_logs(of_b), rounds, parts)


def _parts_of(
    logs: Mapping[Process, Sequence[float]], between: BetweenComparisons | None
) -> list[Part]:
    """Return what is added to the variance within a comparison: nothing where it was repeated."""
    if between is None or is_repeated(logs):
        return []
    return [(between.sd**2, between.freedom)]


def _count(logs: Mapping[Process, Sequence[float]]) -> int:
    return sum(map(len, logs.values()))


def ratio_between(logs: Sequence[float], rounds: int, parts: Sequence[Part] = ()) -> Ratio:
    """Return the ratio that the logarithms of each process's own ratio give, two at the least.

    The point is their geometric mean, the interval and the p-value are Student's t. `parts` are
    added to its variance.
    """
    values, count = np.asarray(logs, float), len(logs)
    variance, freedom = combined([(variance_of_mean(values), count - 1), *parts])
    return student_ratio(float(values.mean()), sqrt(variance), freedom, rounds, count)


def student_ratio(mean: float, error: float, freedom: float, rounds: int, processes: int) -> Ratio:
    """Return ``exp(mean)`` with the interval of a Student's t with `freedom` degrees of freedom.

    `error` is the standard error of `mean`, both of the logarithm.
    """
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(freedom, 0.975)) * error
    away = abs(mean) / error if error > 0 else (inf if mean else 0.0)
    p_value = 2 * float(stdtr(freedom, -away))
    return Ratio(exp(mean), exp(mean - half), exp(mean + half), rounds, processes, p_value)


def difference_of(
    a: Sequence[float], b: Sequence[float], rounds: int, parts: Sequence[Part] = ()
) -> Ratio:
    """Return ``b / a`` of two runs' ratios, given the logarithms of each process: (N,), N > 1.

    Their processes have no partner in the other run: Welch's t. `parts` are added to its variance.
    """
    of_a, of_b = np.asarray(a, float), np.asarray(b, float)
    own = [(variance_of_mean(of_a), len(a) - 1), (variance_of_mean(of_b), len(b) - 1)]
    variance, freedom = combined([*own, *parts])
    mean = float(of_b.mean() - of_a.mean())
    return student_ratio(mean, sqrt(variance), freedom, rounds, min(len(a), len(b)))


def is_claimed(verdict: Verdict | None, p_value: float | None) -> bool:
    """Return whether a verdict stands among all claims of its table: `p_value` is Holm's."""
    return verdict in ("faster", "slower") and p_value is not None and p_value <= FAMILY_ERROR


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for all that are given together; None stays and does not count.

    Of verdicts on those up to 0.05, one or more is wrong with a probability of 5 % at the most
    (S. Holm, Scand. J. Stat. 6, 1979).
    """
    given = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(given):
        largest = max(largest, min(1.0, p * (len(given) - rank)))
        adjusted[index] = largest
    return adjusted

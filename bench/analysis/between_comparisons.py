"""What a machine adds to a speed-up between comparisons: learned from those of the same run.

Neighbours on the host, memory placement and clocks change over minutes; the processes of one
comparison all see one state. Each row's variance between comparisons is estimated from those that
are kept, beyond what the intervals within them explain (the method of moments: R. DerSimonian,
N. Laird, Meta-analysis in clinical trials, Control. Clin. Trials 7, 1986, with equal weights), and
drawn towards what is assumed until there are many.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from foldbench.bench.analysis.comparable import contenders_by_name, contrasts, work_of
from foldbench.bench.analysis.ratios import mean_and_variance
from foldbench.bench.analysis.speedups import find_reference, timing_at
from foldbench.bench.records import BetweenComparisons, Measurement, Run, Timing
from foldbench.bench.samples.ratios import ASSUMED_FREEDOM, assumed_sd

Estimate = tuple[float, float]
"""The logarithm of a speed-up, and its variance within the comparison."""


def with_between_comparisons(run: Run, earlier: Iterable[Run]) -> Run:
    """Return a record that knows of each row what changes between comparisons of its run.

    Those of `earlier` count that were made on this machine with the same versions, and of them the
    rows in which the same file ran with the same settings.
    """
    alike = [other for other in earlier if _is_alike(run, other)]
    rows = [
        m.model_copy(update={"timings": tuple(_with_between(run, m, t, alike) for t in m.timings)})
        for m in run.measurements
    ]
    return run.model_copy(update={"measurements": tuple(rows)})


def between_comparisons(estimates: Sequence[Estimate], assumed: float) -> BetweenComparisons:
    """Return what differs between comparisons with these estimates, one at the least."""
    count = len(estimates)
    found = 0.0
    if count > 1:
        logs, within = np.asarray(estimates, float).T
        found = max(0.0, float(logs.var(ddof=1) - within.mean()))
    freedom = ASSUMED_FREEDOM + count - 1
    variance = (ASSUMED_FREEDOM * assumed**2 + (count - 1) * found) / freedom
    return BetweenComparisons(sd=variance**0.5, freedom=freedom, comparisons=count)


def _with_between(run: Run, m: Measurement, timing: Timing, earlier: Sequence[Run]) -> Timing:
    own = _estimate(run, m, timing)
    if own is None:
        return timing
    others = (_same_row(run, m, timing, other) for other in earlier)
    estimates = [own, *(estimate for estimate in others if estimate is not None)]
    found = between_comparisons(estimates, assumed_sd(run.environment, m.actual_device))
    return timing.model_copy(update={"between_comparisons": found})


def _is_alike(a: Run, b: Run) -> bool:
    """Return whether nothing that a latency depends on differs; rows are held apart."""
    differing = (c.what for c in contrasts(a, b) if "latency" in c.spoils)
    return set(differing) <= {"batch sizes"} and a.baseline == b.baseline


def _same_row(run: Run, m: Measurement, timing: Timing, other: Run) -> Estimate | None:
    """Return what an earlier comparison found for a row; None where it timed something else."""
    theirs = contenders_by_name(other).get(m.contender)
    if theirs is None or work_of(theirs) != work_of(m):
        return None
    references = find_reference(run, m), find_reference(other, theirs)
    if None in references or len({work_of(row) for row in references if row}) > 1:
        return None
    timed = timing_at(theirs, timing.batch_size, timing.boundary)
    return _estimate(other, theirs, timed) if timed else None


def _estimate(run: Run, m: Measurement, timing: Timing) -> Estimate | None:
    """Return the speed-up within a comparison; None for the reference, and with few processes."""
    reference = find_reference(run, m)
    if reference is None or reference.contender == m.contender or m.role != "contender":
        return None
    baseline = timing_at(reference, timing.batch_size, timing.boundary)
    return mean_and_variance(timing.blocks, baseline.blocks) if baseline else None

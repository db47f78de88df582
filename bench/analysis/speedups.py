"""Which rows of a run count, and speed-ups: how sure the ratio is, and the verdict."""

from dataclasses import dataclass
from math import isnan

from foldbench.bench.analysis.answers import exceeded_limit
from foldbench.bench.analysis.clean import clean_pairs
from foldbench.bench.analysis.estimates import (
    Ratio,
    Verdict,
    best_case_ratio,
    judge,
    paired_interval,
)
from foldbench.bench.analysis.ratios import estimated_ratio, paired_ratio
from foldbench.bench.config.export import ExportSection
from foldbench.bench.records import (
    BetweenComparisons,
    Boundary,
    Measurement,
    Role,
    Run,
    Timing,
)


@dataclass(frozen=True)
class Speedup:
    """How many times faster than the baseline on the same device a contender is."""

    reference: str
    rounds: int
    """Rounds in which both were timed."""
    clean_rounds: int
    """Rounds in which both were left alone."""
    ratio: Ratio | None
    """Over the clean rounds; None when there were too few of them."""
    floor_ratio: float | None
    """Of the 5 % quantiles over all rounds: given in place of `ratio` on a loaded machine."""
    noise_floor: float | None
    """The A/A difference in the same rounds; None where that was not timed."""
    verdict: Verdict | None
    repeats: tuple[float, ...]
    """The ratio of each repetition; empty for a single one."""


def contenders(run: Run) -> tuple[Measurement, ...]:
    """Return the rows that are compared, failed ones included; self-checks are not among them."""
    return tuple(m for m in run.measurements if m.role == "contender")


def completed(run: Run) -> tuple[Measurement, ...]:
    """Return the contenders that ran."""
    return tuple(m for m in contenders(run) if m.status == "ok")


def scored(run: Run) -> tuple[Measurement, ...]:
    """Return the contenders with an accuracy; the first one stands for the run.

    That is the reference where it has one. None with random weights, whose answers mean nothing,
    and none without labels.
    """
    if run.checkpoint.random_weights:
        return ()
    rows = [
        m
        for m in completed(run)
        if m.accuracy is not None and m.accuracy.correct is not None and m.accuracy.total > 0
    ]
    return tuple(sorted(rows, key=lambda m: m.contender != run.reference))


def keeps_accuracy(run: Run, m: Measurement) -> bool:
    """Return whether a row is shown to keep the accuracy that its network has as it is.

    It does where the 95 % interval of what it loses, on the same images, stays within the budget
    export.max_drop_points. Without labels, or with random weights, every image that gets another
    class counts as a loss. One whose answers differ by more than rounding does not keep it: that
    its mistakes are as many is luck.
    """
    budget = _budget_of(run)
    if m.contender == run.reference or m.accuracy is None or m.accuracy.agreement is None:
        return m.contender == run.reference or m.precision in _KEPT_PRECISIONS
    agreement = m.accuracy.agreement
    if rounding_exceeded(m) is not None:
        return False
    different = agreement.images - agreement.top1_equal
    if different == 0:
        return True
    reference = next((r.accuracy for r in completed(run) if r.contender == run.reference), None)
    gain = -different
    if m.accuracy.correct is not None and reference is not None and reference.correct is not None:
        gain = m.accuracy.correct - reference.correct
    low, _ = paired_interval(gain, different, agreement.images)
    return low >= -budget


def rounding_exceeded(m: Measurement) -> float | None:
    """Return what rounding explains of its difference from the reference, if that is not all.

    Relative to the largest logit; None where rounding explains it, or nothing is known of it.
    """
    agreement = m.accuracy.agreement if m.accuracy else None
    if agreement is None or isnan(agreement.max_rel_difference):
        return None
    return exceeded_limit(m.precision, agreement.max_rel_difference)


def with_other_answers(run: Run) -> frozenset[str]:
    """Return the contenders whose difference from the reference rounding does not explain."""
    return frozenset(m.contender for m in contenders(run) if rounding_exceeded(m) is not None)


_KEPT_PRECISIONS = ("float32", "tf32")
"""Of rows without an agreement."""


def _budget_of(run: Run) -> float:
    points = (run.config.get("export") or {}).get("max_drop_points")
    return float(ExportSection().max_drop_points if points is None else points) / 100


def self_checks(run: Run, role: Role) -> tuple[Measurement, ...]:
    """Return the rows that ran of one kind of self-check."""
    return tuple(m for m in run.measurements if (m.role, m.status) == (role, "ok"))


def find_reference(run: Run, measurement: Measurement) -> Measurement | None:
    """Return the baseline on the device that `measurement` really ran on; never another one."""
    for other in completed(run):
        same_device = other.actual_device == measurement.actual_device
        if f"{other.backend}/{other.variant}" == run.baseline and same_device:
            return other
    return None


def timing_at(
    measurement: Measurement, batch_size: int, boundary: Boundary = "host"
) -> Timing | None:
    """Return what was timed at a batch size within a boundary, None when nothing was."""
    wanted = batch_size, boundary
    return next((t for t in measurement.timings if (t.batch_size, t.boundary) == wanted), None)


def measure_speedup(
    run: Run,
    measurement: Measurement,
    batch_size: int,
    boundary: Boundary = "host",
    *,
    alone: bool = False,
) -> Speedup | None:
    """Return the speed-up at a batch size, None without a reference or without times.

    Both sides are within the same boundary. With `alone` the interval is of this comparison alone,
    without what comparisons differ by: more rounds make that one narrower.
    """
    reference = find_reference(run, measurement)
    if reference is None:
        return None
    baseline = timing_at(reference, batch_size, boundary)
    candidate = timing_at(measurement, batch_size, boundary)
    if baseline is None or candidate is None:
        return None
    noise_floor = _aa_noise(run, reference, baseline)
    mine, _ = clean_pairs(candidate.blocks, baseline.blocks)
    ratio = _ratio(run, candidate, baseline, None if alone else candidate.between_comparisons)
    if reference.contender == measurement.contender:
        processes = ratio.processes if ratio else 1
        ratio = Ratio(1.0, None, None, len(mine), processes)
    loaded = None
    if ratio is None:
        loaded = best_case_ratio(baseline.samples_s(), candidate.samples_s())
    return Speedup(
        reference=reference.contender,
        rounds=len({b.round for b in candidate.blocks} & {b.round for b in baseline.blocks}),
        clean_rounds=len(mine),
        ratio=ratio,
        floor_ratio=loaded,
        noise_floor=noise_floor,
        verdict=judge(ratio, noise_floor or 0.0) if ratio else None,
        repeats=_repeats(candidate, baseline),
    )


def _ratio(
    run: Run, candidate: Timing, baseline: Timing, between: BetweenComparisons | None = None
) -> Ratio | None:
    """Return the ratio when enough rounds are clean."""
    return estimated_ratio(candidate.blocks, baseline.blocks, run.rounds, between)


def _aa_noise(run: Run, reference: Measurement, baseline: Timing) -> float | None:
    checks = self_checks(run, "again")
    aa_control = next((m for m in checks if m.actual_device == reference.actual_device), None)
    timing = timing_at(aa_control, baseline.batch_size, baseline.boundary) if aa_control else None
    if timing is None:
        return None
    ratio = _ratio(run, timing, baseline)
    point = ratio.point if ratio else best_case_ratio(baseline.samples_s(), timing.samples_s())
    return None if point is None else abs(point - 1)


def _repeats(candidate: Timing, baseline: Timing) -> tuple[float, ...]:
    numbers = sorted({block.repeat for block in candidate.blocks})
    if len(numbers) < 2:
        return ()
    ratios = []
    for number in numbers:
        ratio = paired_ratio(
            [b for b in candidate.blocks if b.repeat == number],
            [b for b in baseline.blocks if b.repeat == number],
        )
        if ratio is not None:
            ratios.append(ratio.point)
    return tuple(ratios)


def measure_step(
    run: Run, before: Measurement, after: Measurement, batch_size: int
) -> Ratio | None:
    """Return how many times faster `after` is than `before`, over rounds in which both were clean.

    None where either was not timed at the batch size, or too few rounds were clean.
    """
    baseline, candidate = timing_at(before, batch_size), timing_at(after, batch_size)
    if baseline is None or candidate is None:
        return None
    return _ratio(run, candidate, baseline, candidate.between_comparisons)

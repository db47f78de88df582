"""Two runs row by row: what became faster or slower, more or less accurate, or was lost.

Run A is the one before, run B the one after. Statistics of stored records alone; nothing is
rounded. The runs were not timed in turns, so their blocks are not paired: an interval here covers
the scatter within each run, and nothing that the machine did between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from foldbench.bench.analysis.clean import block_medians, count_clean_rounds
from foldbench.bench.analysis.comparable import Contrast, contenders_by_name, contrasts
from foldbench.bench.analysis.estimates import (
    MIN_CLEAN_ROUNDS,
    Ratio,
    Verdict,
    best_case_ratio,
    judge,
    median_or_none,
    paired_interval,
    unpaired_interval,
    unpaired_ratio,
)
from foldbench.bench.analysis.speedups import measure_speedup, timing_at
from foldbench.bench.records import Boundary, Measurement, Run, Timing

AccuracyVerdict = Literal["more accurate", "less accurate", "no difference resolved"]
Presence = Literal["ok", "failed", "skipped", "not timed", "absent"]


@dataclass(frozen=True)
class LatencyChange:
    """One contender at one batch size in both runs."""

    contender: str
    batch_size: int
    a_s: float | None
    """Median over clean blocks of the blocks' medians; over all where none is clean."""
    b_s: float | None
    a_clean_blocks: int
    b_clean_blocks: int
    ratio: Ratio | None
    """A / B, above 1 where B is faster; None where either run has too few clean blocks."""
    floor_ratio: float | None
    """Of the 5 % quantiles of all calls: given in place of `ratio` on a loaded machine."""
    noise_floor: float | None
    """The larger one of both runs' A/A floors; None where neither timed its reference twice."""
    verdict: Verdict | None
    same_work: bool
    """Whether both runs ran the same file in the same runtime with the same settings."""
    boundary: Boundary = "host"


@dataclass(frozen=True)
class AccuracyChange:
    """One contender's top-1 accuracy in both runs; shares of 1."""

    contender: str
    a: float
    b: float
    difference: float
    """B - A."""
    low: float
    high: float
    """Ends of the 95 % interval of the difference."""
    paired: bool
    """Whether the interval uses that both runs saw the same images."""
    images: int | None
    """Images that both runs saw; None where the images differ or classes were not stored."""
    top1_different: int | None
    """Of these, how many got another class; None as above."""
    verdict: AccuracyVerdict


@dataclass(frozen=True)
class Unmatched:
    """One contender, or one of its batch sizes, that has figures in one run at the most."""

    contender: str
    batch_size: int | None
    a: Presence
    b: Presence
    reason: str | None
    """Why it did not run, as B's record says, or else A's."""
    boundary: Boundary = "host"


@dataclass(frozen=True)
class Difference:
    """Everything that two runs' records tell about each other."""

    contrasts: tuple[Contrast, ...]
    latency: tuple[LatencyChange, ...]
    accuracy: tuple[AccuracyChange, ...]
    unmatched: tuple[Unmatched, ...]


def compare_runs(a: Run, b: Run) -> Difference:
    """Return the difference of B from A, by contender name and batch size, in A's order."""
    of_a, of_b = contenders_by_name(a), contenders_by_name(b)
    both = [n for n in of_a if n in of_b and {of_a[n].status, of_b[n].status} == {"ok"}]
    same_images = a.evaluation_sha256 == b.evaluation_sha256
    trained = not (a.checkpoint.random_weights or b.checkpoint.random_weights)
    latency, accuracy = [], []
    for name in both:
        latency += list(_latency_changes(a, b, of_a[name], of_b[name]))
        change = _accuracy_change(of_a[name], of_b[name], same_images) if trained else None
        accuracy += [change] if change else []
    return Difference(contrasts(a, b), tuple(latency), tuple(accuracy), tuple(_unmatched(a, b)))


def _latency_changes(
    a: Run, b: Run, of_a: Measurement, of_b: Measurement
) -> Iterator[LatencyChange]:
    for before in of_a.timings:
        after = timing_at(of_b, before.batch_size, before.boundary)
        if after is None:
            continue
        a_clean, b_clean = count_clean_rounds(before), count_clean_rounds(after)
        judged = a_clean >= min(MIN_CLEAN_ROUNDS, a.rounds) and b_clean >= min(
            MIN_CLEAN_ROUNDS, b.rounds
        )
        a_s, b_s = block_medians(before), block_medians(after)
        ratio = unpaired_ratio(a_s, b_s) if judged else None
        floors = [_aa_noise(a, of_a, before), _aa_noise(b, of_b, after)]
        noise_floor = max((floor for floor in floors if floor is not None), default=None)
        yield LatencyChange(
            contender=of_a.contender,
            batch_size=before.batch_size,
            a_s=median_or_none(a_s),
            b_s=median_or_none(b_s),
            a_clean_blocks=a_clean,
            b_clean_blocks=b_clean,
            ratio=ratio,
            floor_ratio=None if ratio else best_case_ratio(before.samples_s(), after.samples_s()),
            noise_floor=noise_floor,
            verdict=judge(ratio, noise_floor or 0.0) if ratio else None,
            same_work=_work(of_a) == _work(of_b) and of_a.source_sha256 is not None,
            boundary=before.boundary,
        )


def _aa_noise(run: Run, measurement: Measurement, timing: Timing) -> float | None:
    speedup = measure_speedup(run, measurement, timing.batch_size, timing.boundary)
    return speedup.noise_floor if speedup else None


def _work(m: Measurement) -> tuple[object, ...]:
    return m.source_sha256, m.runtime, m.threads, m.precision, m.actual_device


def _accuracy_change(
    of_a: Measurement, of_b: Measurement, same_images: bool
) -> AccuracyChange | None:
    a, b = of_a.accuracy, of_b.accuracy
    if a is None or b is None or not a.total or not b.total:
        return None
    if a.correct is None or b.correct is None:
        return None
    paired = same_images and len(a.top1) == len(b.top1) == a.total == b.total
    different = sum(x != y for x, y in zip(a.top1, b.top1, strict=True)) if paired else None
    if different is None:
        low, high = unpaired_interval(a.correct, a.total, b.correct, b.total)
    else:
        low, high = paired_interval(b.correct - a.correct, different, a.total)
    return AccuracyChange(
        contender=of_a.contender,
        a=a.correct / a.total,
        b=b.correct / b.total,
        difference=b.correct / b.total - a.correct / a.total,
        low=low,
        high=high,
        paired=paired,
        images=a.total if paired else None,
        top1_different=different,
        verdict=_judge_accuracy(low, high),
    )


def _judge_accuracy(low: float, high: float) -> AccuracyVerdict:
    if low <= 0 <= high:
        return "no difference resolved"
    return "more accurate" if low > 0 else "less accurate"


def _unmatched(a: Run, b: Run) -> Iterator[Unmatched]:
    of_a, of_b = contenders_by_name(a), contenders_by_name(b)
    for name in dict.fromkeys([*of_a, *of_b]):
        before, after = of_a.get(name), of_b.get(name)
        statuses: list[Presence] = [m.status if m else "absent" for m in (before, after)]
        if before is None or after is None or statuses != ["ok", "ok"]:
            reason = (after.reason if after else None) or (before.reason if before else None)
            yield Unmatched(name, None, statuses[0], statuses[1], reason)
            continue
        series = [{(t.batch_size, t.boundary) for t in m.timings} for m in (before, after)]
        for one in sorted(series[0] ^ series[1]):
            timed: list[Presence] = ["ok" if one in side else "not timed" for side in series]
            yield Unmatched(name, one[0], timed[0], timed[1], None, one[1])


@dataclass(frozen=True)
class Regression:
    """One thing that got worse by more than was allowed."""

    kind: Literal["slower", "less accurate", "lost"]
    contender: str
    batch_size: int | None = None
    change: float | None = None
    """Share by which the latency rose, or share of 1 by which the accuracy fell."""
    status: Presence | None = None
    reason: str | None = None
    boundary: Boundary = "host"


def find_regressions(difference: Difference, limit: float) -> tuple[Regression, ...]:
    """Return what got worse by more than `limit`, beyond what chance explains.

    Slower: the verdict is "slower" and the latency rose by more than the share `limit`. Less
    accurate: the interval of the difference is below 0 and the accuracy fell by more than `limit`
    (0.05 is five percentage points). Lost: it ran in A and failed or was skipped in B.
    """
    slower = [
        Regression(
            "slower",
            row.contender,
            row.batch_size,
            1 / row.ratio.point - 1,
            boundary=row.boundary,
        )
        for row in difference.latency
        if row.verdict == "slower" and row.ratio and 1 / row.ratio.point - 1 > limit
    ]
    worse = [
        Regression("less accurate", row.contender, change=-row.difference)
        for row in difference.accuracy
        if row.verdict == "less accurate" and -row.difference > limit
    ]
    lost = [
        Regression("lost", row.contender, status=row.b, reason=row.reason)
        for row in difference.unmatched
        if row.a == "ok" and row.b in ("failed", "skipped")
    ]
    return (*slower, *worse, *lost)

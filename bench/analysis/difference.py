"""Two runs row by row: what became faster or slower, more or less accurate, or was lost.

Run A is the one before, run B the one after. Statistics of stored records alone; nothing is
rounded. Latency is judged by its ratio to the baseline within each run: see `latency_change`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from foldbench.bench.analysis.comparable import Contrast, contenders_by_name, contrasts
from foldbench.bench.analysis.estimates import paired_interval, unpaired_interval
from foldbench.bench.analysis.latency_change import (
    Drift,
    LatencyChange,
    find_drifts,
    latency_changes,
)
from foldbench.bench.records import Boundary, Measurement, Run

AccuracyVerdict = Literal["more accurate", "less accurate", "no difference resolved"]
Presence = Literal["ok", "failed", "skipped", "not timed", "absent"]


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
    drifts: tuple[Drift, ...] = ()


def compare_runs(a: Run, b: Run) -> Difference:
    """Return the difference of B from A, by contender name and batch size, in A's order."""
    of_a, of_b = contenders_by_name(a), contenders_by_name(b)
    both = [n for n in of_a if n in of_b and {of_a[n].status, of_b[n].status} == {"ok"}]
    same_images = a.evaluation_sha256 == b.evaluation_sha256
    trained = not (a.checkpoint.random_weights or b.checkpoint.random_weights)
    latency = latency_changes(a, b, both)
    accuracy = [
        change
        for name in both
        if trained and (change := _accuracy_change(of_a[name], of_b[name], same_images))
    ]
    return Difference(
        contrasts(a, b), latency, tuple(accuracy), tuple(_unmatched(a, b)), find_drifts(latency)
    )


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
    """Share by which the latency rose, relative to the baseline's, or share of 1 by which the
    accuracy fell."""
    status: Presence | None = None
    reason: str | None = None
    boundary: Boundary = "host"


def find_regressions(difference: Difference, limit: float) -> tuple[Regression, ...]:
    """Return what got worse by more than `limit`, beyond what chance explains.

    Slower: the verdict is "slower", and the latency, relative to that of the baseline in the same
    rounds, rose by more than the share `limit`. Less
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


@dataclass(frozen=True)
class Unjudged:
    """A latency of which it cannot be told whether it got worse."""

    contender: str | None
    """None where no latency was measured in both runs."""
    batch_size: int | None
    reason: str
    boundary: Boundary = "host"


def find_unjudged(difference: Difference) -> tuple[Unjudged, ...]:
    """Return what ran in A and of which it cannot be told whether it is slower in B.

    What failed or was skipped in B is not among it: that is a regression.
    """
    found = [
        Unjudged(row.contender, row.batch_size, row.unjudged, row.boundary)
        for row in difference.latency
        if row.unjudged is not None
    ]
    found += [
        Unjudged(row.contender, row.batch_size, f"ok in A, {row.b} in B", row.boundary)
        for row in difference.unmatched
        if row.a == "ok" and row.b in ("absent", "not timed")
    ]
    if not found and not difference.latency:
        return (Unjudged(None, None, "no row was timed in rounds in both runs"),)
    return tuple(found)

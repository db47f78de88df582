"""What got worse between two runs by more than is allowed: the gate of `bench diff --fail-on`."""

from dataclasses import dataclass
from typing import Literal

from foldbench.bench.analysis.difference import Difference, Presence
from foldbench.bench.records import Boundary


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

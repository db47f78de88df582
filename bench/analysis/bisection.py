"""In which of several versions something got worse: halving, by verdicts against the oldest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Literal

import numpy as np

from foldbench.bench.analysis.gate import Check
from foldbench.bench.analysis.sequential import Outcome
from foldbench.bench.arrays import Floats

Question = Literal["latency", "answers", "peak memory"]
Place = tuple[int, int]


@dataclass(frozen=True)
class Tried:
    """One version: what is known of it against the oldest, or why it was skipped."""

    version: str
    check: Check | None = None
    reason: str | None = None

    @property
    def outcome(self) -> Outcome | None:
        """None where it was skipped."""
        return self.check.outcome if self.check else None


@dataclass(frozen=True)
class Halved:
    """What halving found."""

    good: str
    """The newest version that is known not to be worse; at first the oldest of all."""
    bad: str | None
    """The oldest version that is known to be worse; None where the newest is not."""
    tried: tuple[Tried, ...]
    """In the order in which they were."""


@dataclass(frozen=True)
class Part:
    """The smallest part of the network that shows it, written to a folder."""

    folder: str
    good: str
    bad: str
    nodes: int
    """Of the part."""
    of_nodes: int
    """Of the network."""
    operators: tuple[str, ...]
    """Types of the part's nodes, in their order."""
    check: Check
    """The version `bad` against `good` on the part."""


@dataclass(frozen=True)
class Bisected:
    """What a bisection found, and how sure that is."""

    subject: str
    runtime: str
    """As the command names it, such as ``ort``."""
    question: Question
    allowed: float
    """What a version may be worse by, as a share."""
    versions: tuple[str, ...]
    """All within the range, the oldest first."""
    base: str
    """The oldest that runs the network: others are held against it."""
    good: str
    bad: str | None
    tried: tuple[Tried, ...]
    error: float
    """Most often that any of all verdicts is wrong; 0 for answers, which are counted."""
    on_unclear: Literal["pass", "fail"]
    seconds: float
    """What it took."""
    part: Part | None = None
    environment: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Worse where a version is; not worse where the newest is known not to be."""
        if self.bad is not None:
            return "worse"
        return "not worse" if self.good != self.base else "cannot tell"

    @property
    def between(self) -> tuple[str, ...]:
        """Return the versions between `good` and `bad`: skipped, or not told apart from them."""
        if self.bad is None:
            return ()
        first, last = self.versions.index(self.good), self.versions.index(self.bad)
        return self.versions[first + 1 : last]

    @property
    def fails(self) -> bool:
        """Whether the command is to fail."""
        unclear = self.outcome == "cannot tell" and self.on_unclear == "fail"
        return self.outcome == "worse" or unclear


def halve(versions: Sequence[str], judge: Callable[[str], Tried]) -> Halved:
    """Return between which of `versions` it got worse; the first one is what others are held to.

    `judge` is asked for the newest one first, then for one in the middle of what is left. A skipped
    version's neighbour stands for it. It ends where the newest one is not worse, and at the first
    version that cannot be told.
    """
    tried: list[Tried] = []

    def ask(left: Sequence[str], place: int) -> Tried | None:
        """Judge the version at `place`, or the nearest one that is not skipped."""
        for version in sorted(left, key=lambda one: (abs(left.index(one) - place), one)):
            tried.append(judge(version))
            if tried[-1].check is not None:
                return tried[-1]
        return None

    good, left = versions[0], list(versions[1:])
    newest = ask(left[::-1], 0)
    if newest is None or newest.outcome != "worse":
        told = newest is not None and newest.outcome == "not worse"
        return Halved(newest.version if newest and told else good, None, tuple(tried))
    bad = newest.version
    left = left[: left.index(bad)]
    while (middle := ask(left, len(left) // 2)) is not None:
        if middle.outcome == "cannot tell":
            break
        skipped = {one.version for one in tried if one.check is None}
        place = left.index(middle.version)
        if middle.outcome == "worse":
            bad, left = middle.version, left[:place]
        else:
            good, left = middle.version, left[place + 1 :]
        left = [version for version in left if version not in skipped]
    return Halved(good, bad, tuple(tried))


def most_verdicts(versions: int) -> int:
    """Return how many verdicts halving as many versions takes at the most."""
    return 1 + max(0, versions - 2).bit_length()


def narrow(places: int, shows: Callable[[int, int], bool]) -> Place:
    """Return the smallest part, as its first and last place, that still shows something.

    A network can be cut at `places`, its two ends among them; as a whole it is known to show it.
    Halving moves the end forward, then the beginning back.
    """
    low, end = 0, places - 1
    while end - low > 1:
        middle = (low + end) // 2
        low, end = (low, middle) if shows(0, middle) else (middle, end)
    begin, high = 0, end
    while high - begin > 1:
        middle = (begin + high) // 2
        begin, high = (middle, high) if shows(middle, end) else (begin, middle)
    return begin, end


def check_answers(base: Floats, again: Floats, head: Floats, allowed: float) -> Check:
    """Return whether answers (N, K) differ from BASE's by more than `allowed`, a share.

    Of the largest of BASE's; what is not finite differs. BASE once more is the control: it cannot
    be told where that differs by more than half as much.
    """
    control, change = largest_difference(base, again), largest_difference(base, head)
    outcome: Outcome = "worse" if change > allowed else "not worse"
    reason = None if isfinite(change) else "its answers are not all finite numbers"
    if control > allowed / 2:
        outcome, reason = "cannot tell", "BASE does not give the same answers twice"
    found = change if isfinite(change) else None
    return Check("answers", outcome, allowed, change=found, reason=reason)


def largest_difference(base: Floats, head: Floats) -> float:
    """Return the largest difference from `base` as a share of its largest; inf for no number."""
    if base.shape != head.shape or not np.isfinite(base).all() or not np.isfinite(head).all():
        return inf
    difference = float(np.abs(base.astype(np.float64) - head).max(initial=0.0))
    return difference / max(float(np.abs(base).max(initial=0.0)), 1e-300)

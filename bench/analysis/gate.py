"""What a gate finds of HEAD against BASE, property by property: worse, not worse, cannot tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Literal

import numpy as np

from foldbench.bench import units
from foldbench.bench.analysis.clean import clean_pairs
from foldbench.bench.analysis.sequential import (
    FIRST_LOOK,
    Judged,
    Outcome,
    SequentialTest,
    judge_changes,
)
from foldbench.bench.arrays import Labels
from foldbench.bench.records import Agreement
from foldbench.bench.samples.ratios import Process, process_of
from foldbench.bench.samples.timing import Block

Property = Literal["latency", "accuracy", "agreement", "answers", "file size", "peak memory"]


@dataclass(frozen=True)
class Check:
    """One property of HEAD against BASE's. Times in seconds, sizes in bytes, shares of 1.

    `change`, `low`, `high`, `smallest` and `allowed` are relative for latency, file size and
    memory, and differences for accuracy (what is lost) and agreement (images that changed class).
    """

    what: Property
    outcome: Outcome
    allowed: float
    base: float | None = None
    head: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    smallest: float | None = None
    """Smallest change that this job finds with probability 1 - beta; None where it is exact."""
    batch_size: int | None = None
    generations: int | None = None
    reason: str | None = None
    """Why it cannot be told, or what the figures rest on."""

    @property
    def name(self) -> str:
        """Unique within the gate, such as ``latency, batch 1``."""
        return f"{self.what}, batch {self.batch_size}" if self.batch_size else self.what


@dataclass(frozen=True)
class GateResult:
    """All checks of one job, and what it was."""

    base: str
    head: str
    checks: tuple[Check, ...]
    alpha: float
    beta: float
    on_unclear: Literal["pass", "fail"]
    seconds: float
    """What the job took."""
    processes: int
    """Generations of processes that were started."""
    most: int
    """Generations that the budget would have carried."""
    environment: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """worse where anything is, not worse where everything is known not to be."""
        found = {check.outcome for check in self.checks}
        if "worse" in found:
            return "worse"
        return "cannot tell" if "cannot tell" in found else "not worse"

    @property
    def fails(self) -> bool:
        """Whether the job is to fail."""
        unclear = self.outcome == "cannot tell" and self.on_unclear == "fail"
        return self.outcome == "worse" or unclear


@dataclass(frozen=True)
class Generations:
    """What each generation of processes gave, in order."""

    changes: tuple[float, ...]
    controls: tuple[float, ...]
    disturbed: int = 0
    """Generations without a round that other programs left alone: all their rounds count."""


def generations_of(
    base: Sequence[Block], again: Sequence[Block], head: Sequence[Block]
) -> Generations:
    """Return the change and the control of each generation that timed all three.

    The median over the rounds in which all were left alone. Two versions of a network suffer alike
    from a neighbour, so that a generation without such rounds still tells: all its rounds count.
    """
    clean_base, clean_head = clean_pairs(base, head)
    clean_again, _ = clean_pairs(again, head)
    clean = clean_base.keys() & clean_again.keys() & clean_head.keys()
    times = [_medians(blocks) for blocks in (base, again, head)]
    shared = sorted(times[0].keys() & times[1].keys() & times[2].keys())
    by_process: dict[Process, list[int]] = {}
    where = {block.round: process_of(block) for block in base}
    for number in shared:
        by_process.setdefault(where[number], []).append(number)
    changes, controls, disturbed = [], [], 0
    for rounds in by_process.values():
        usable = [number for number in rounds if number in clean]
        disturbed += not usable
        logs = np.log([[one[number] for one in times] for number in usable or rounds])
        changes.append(float(np.median(logs[:, 2] - (logs[:, 0] + logs[:, 1]) / 2)))
        controls.append(float(np.median(logs[:, 1] - logs[:, 0])))
    return Generations(tuple(changes), tuple(controls), disturbed)


def _medians(blocks: Sequence[Block]) -> dict[int, float]:
    """Return the median call of each round, in its last block: earlier tries were disturbed."""
    found = {block.round: float(np.median(block.samples_s)) for block in blocks}
    return {number: median for number, median in found.items() if median > 0}


def check_latency(
    batch_size: int,
    generations: Generations,
    medians: tuple[float | None, float | None],
    test: SequentialTest,
) -> Check:
    """Return what is known of the latency; `medians` are BASE's and HEAD's, seconds."""
    judged = judge_changes(generations.changes, generations.controls, test)
    return _repeated("latency", judged, medians, test, batch_size)


def check_memory(
    base: Sequence[int], again: Sequence[int], head: Sequence[int], test: SequentialTest
) -> Check:
    """Return what is known of the peak memory, bytes of each generation's processes."""
    logs = [
        (log(h) - (log(b) + log(a)) / 2, log(a) - log(b))
        for b, a, h in zip(base, again, head, strict=False)
    ]
    judged = judge_changes([change for change, _ in logs], [control for _, control in logs], test)
    medians = tuple(float(np.median(one)) if one else None for one in ((*base, *again), head))
    return _repeated("peak memory", judged, (medians[0], medians[1]), test, None)


def _repeated(
    what: Property,
    judged: Judged,
    medians: tuple[float | None, float | None],
    test: SequentialTest,
    batch_size: int | None,
) -> Check:
    return Check(
        what=what,
        outcome=judged.outcome,
        allowed=test.allowed,
        base=medians[0],
        head=medians[1],
        change=judged.change,
        low=judged.low,
        high=judged.high,
        smallest=judged.smallest,
        batch_size=batch_size,
        generations=judged.generations,
        reason=_why_unclear(judged),
    )


def _why_unclear(judged: Judged) -> str | None:
    if judged.control_differs and judged.control is not None:
        return (
            f"BASE differs from itself by {units.change(judged.control)} %: the machine is at fault"
        )
    if judged.generations < FIRST_LOOK:
        return (
            f"{judged.generations} of at least {FIRST_LOOK} processes of each network were timed: "
            "raise --budget"
        )
    return None


def check_accuracy(
    labels: Labels,
    base: Labels,
    head: Labels,
    allowed: float,
    errors: tuple[float, float],
) -> Check:
    """Return what is known of the accuracy on the same images: labels and answers are (N,).

    McNemar's exact test, one-sided, against a loss of `allowed` (a share of 1) in place of none: of
    the m images that one of both gets right, those that are BASE's are then binomial with
    ``(1 + allowed * N / m) / 2``. `errors` are alpha and beta.
    """
    from scipy.stats import binom

    images = len(labels)
    lost = int(((base == labels) & (head != labels)).sum())
    won = int(((base != labels) & (head == labels)).sum())
    different = lost + won
    outcome: Outcome = "cannot tell"
    if different <= allowed * images:  # not even losing all of them would be too much
        outcome = "not worse"
    else:
        chance = (1 + allowed * images / different) / 2
        if binom.sf(lost - 1, different, chance) <= errors[0]:
            outcome = "worse"
        elif binom.cdf(lost, different, chance) <= errors[1]:
            outcome = "not worse"
    return Check(
        what="accuracy",
        outcome=outcome,
        allowed=allowed,
        base=float((base == labels).mean()),
        head=float((head == labels).mean()),
        change=(lost - won) / images,
        smallest=_smallest_drop(different, images, allowed, errors),
        reason=(
            f"of {units.count(images)} images {units.count(lost)} are right in BASE alone, "
            f"{units.count(won)} in HEAD alone"
        ),
    )


def _smallest_drop(
    different: int, images: int, allowed: float, errors: tuple[float, float]
) -> float:
    """Return the loss that is found with probability 1 - beta among as many differing images."""
    from scipy.special import ndtri

    spread = max(different, 1) ** 0.5 / images
    return float(max(allowed, 1 / images) - (ndtri(errors[0]) + ndtri(errors[1])) * spread)


def check_agreement(agreement: Agreement, allowed: float) -> Check:
    """Return whether more images than the share `allowed` got another class: a count, no sample."""
    changed = agreement.images - agreement.top1_equal
    return Check(
        what="agreement",
        outcome="worse" if changed > allowed * agreement.images else "not worse",
        allowed=allowed,
        change=changed / agreement.images,
        reason=(
            f"{units.count(changed)} of {units.count(agreement.images)} images get another class; "
            f"max |Δ logit| {units.error(agreement.max_abs_difference)}"
        ),
    )


def check_size(base: int, head: int, allowed: float) -> Check:
    """Return whether the file grew by more than `allowed`; sizes in bytes."""
    outcome: Outcome = "worse" if head > base * (1 + allowed) else "not worse"
    return Check("file size", outcome, allowed, float(base), float(head), head / base - 1)

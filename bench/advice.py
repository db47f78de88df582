"""What a reader of a run should be warned of: kinds with numbers, and what to do about each.

A rule finds; its text says what was found and what to do that was not done already. Texts have
named slots: ``{where}`` is the list of rows concerned, every other one a number of the advice,
whose name carries its unit. Numbers are put into words in `reports` alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from bench.records import Artifact, Measurement, Run, Timing
from bench.statistics import (
    MIN_ROUNDS_FOR_INTERVAL,
    calls_needed,
    median,
    relative_drift,
    relative_spread,
    wilson_interval,
)

SPREAD_LIMIT = 0.05
"""Interquartile range of block medians, divided by their median."""
DRIFT_LIMIT = 0.03
"""Change of the block median from the first to the last third of the rounds."""

Topic = Literal["accuracy", "agreement", "latency", "export"]
Number = float | int | str


@dataclass(frozen=True)
class Advice:
    """One warning about one row, or about the whole run where `subject` is None."""

    kind: str
    subject: str | None = None
    """A contender; for topic ``export`` the variant of an artifact."""
    batch_size: int | None = None
    severity: float = 0.0
    """Orders advice of one kind; the worst one's numbers are shown for all."""
    numbers: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """One kind of warning: which table it is about, how it is found, and its text."""

    topic: Topic
    find: Callable[[Run, str], Iterator[Advice]]
    text: str


def advise(run: Run) -> tuple[Advice, ...]:
    """Return every warning that the records of `run` give cause for, in the order of RULES."""
    return tuple(advice for kind, rule in RULES.items() for advice in rule.find(run, kind))


def _ok(run: Run) -> list[Measurement]:
    return [m for m in run.measurements if m.status == "ok"]


def _timed(run: Run) -> Iterator[tuple[Measurement, Timing]]:
    for measurement in _ok(run):
        for timing in measurement.timings:
            yield measurement, timing


def _block_medians(timing: Timing) -> list[float]:
    blocks = sorted(timing.blocks, key=lambda block: block.round)
    medians = (median(block.samples_s) for block in blocks)
    return [value for value in medians if value is not None]


def _find_no_reference(run: Run, kind: str) -> Iterator[Advice]:
    scored = [m.accuracy for m in _ok(run) if m.accuracy is not None]
    if scored and not any(accuracy.agreement for accuracy in scored):
        yield Advice(kind, numbers={"reference": run.reference})


def _find_at_chance(run: Run, kind: str) -> Iterator[Advice]:
    chance = 1 / max(len(run.checkpoint.classes), 1)
    for m in _ok(run):
        if m.accuracy is None or m.accuracy.total == 0:
            continue
        low, _ = wilson_interval(m.accuracy.correct, m.accuracy.total)
        share = m.accuracy.correct / m.accuracy.total
        if low <= chance:
            numbers = {"accuracy_ratio": share, "chance_ratio": chance}
            yield Advice(kind, m.contender, None, chance - share, numbers)


def _find_disagreement(run: Run, kind: str) -> Iterator[Advice]:
    for m in _ok(run):
        agreement = m.accuracy.agreement if m.accuracy else None
        if agreement and agreement.top1_equal < agreement.images:
            different = agreement.images - agreement.top1_equal
            numbers: dict[str, Number] = {
                "different_count": different,
                "images_count": agreement.images,
                "reference": run.reference,
            }
            yield Advice(kind, m.contender, None, different, numbers)


def _find_misplaced(run: Run, kind: str) -> Iterator[Advice]:
    for m in _ok(run):
        actual = (m.actual_device or m.requested_device).partition(":")[0]
        if actual != m.requested_device:
            numbers = {"requested": m.requested_device, "actual": actual}
            yield Advice(kind, m.contender, None, 0.0, numbers)


def _find_unequal_threads(run: Run, kind: str) -> Iterator[Advice]:
    on_cpu = [m for m in _ok(run) if m.actual_device == "cpu" and m.threads is not None]
    found = sorted({m.threads for m in on_cpu if m.threads is not None})
    if len(found) > 1:
        yield Advice(
            kind, numbers={"found": " and ".join(map(str, found)), "most_count": found[-1]}
        )


def _find_unequal_precision(run: Run, kind: str) -> Iterator[Advice]:
    found = sorted({m.precision for m in _ok(run)})
    if len(found) > 1:
        yield Advice(kind, numbers={"found": " and ".join(found)})


def _find_noisy(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in _timed(run):
        spread = relative_spread(_block_medians(timing))
        if spread is not None and spread > SPREAD_LIMIT:
            numbers = {
                "spread_ratio": spread,
                "limit_ratio": SPREAD_LIMIT,
                "rounds_count": len(timing.blocks),
            }
            yield Advice(kind, m.contender, timing.batch_size, spread, numbers)


def _find_drifting(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in _timed(run):
        drift = relative_drift(_block_medians(timing))
        if drift is not None and abs(drift) > DRIFT_LIMIT:
            numbers = {
                "drift_ratio": abs(drift),
                "direction": "slower" if drift > 0 else "faster",
                "limit_ratio": DRIFT_LIMIT,
            }
            yield Advice(kind, m.contender, timing.batch_size, abs(drift), numbers)


def _find_few_calls(run: Run, kind: str) -> Iterator[Advice]:
    needed = calls_needed(0.95)
    for m, timing in _timed(run):
        calls = len(timing.samples_s())
        if calls < needed:
            numbers = {
                "calls_count": calls,
                "needed_count": needed,
                "per_block_count": ceil(needed / max(len(timing.blocks), 1)),
            }
            yield Advice(kind, m.contender, timing.batch_size, needed - calls, numbers)


def _find_few_rounds(run: Run, kind: str) -> Iterator[Advice]:
    if run.rounds < MIN_ROUNDS_FOR_INTERVAL and any(True for _ in _timed(run)):
        numbers = {"rounds_count": run.rounds, "needed_count": MIN_ROUNDS_FOR_INTERVAL}
        yield Advice(kind, numbers=numbers)


def _folded(run: Run) -> list[Artifact]:
    return [a for a in run.artifacts if a.variant == "folded"]


def _find_parity_failed(run: Run, kind: str) -> Iterator[Advice]:
    for artifact in run.artifacts:
        if not artifact.parity.passed:
            reason = artifact.parity.reason or "no reason was recorded"
            yield Advice(kind, artifact.variant, None, 0.0, {"reason": reason})


def _find_fold_without_effect(run: Run, kind: str) -> Iterator[Advice]:
    for artifact in _folded(run):
        if artifact.fold.batchnorms_before == 0:
            yield Advice(kind, artifact.variant)


def _find_folded_by_exporter(run: Run, kind: str) -> Iterator[Advice]:
    for artifact in run.artifacts:
        if "exporter" in artifact.folded_by:
            yield Advice(kind, artifact.variant, None, 0.0, {"exporter": artifact.exporter})


def _find_batchnorm_left(run: Run, kind: str) -> Iterator[Advice]:
    for artifact in _folded(run):
        left = max(artifact.fold.batchnorms_after, artifact.batchnorm_nodes)
        if left:
            skips = (f"{skip.module}: {skip.reason}" for skip in artifact.fold.skipped)
            reason = next(skips, "no reason was recorded")
            yield Advice(kind, artifact.variant, None, left, {"left_count": left, "reason": reason})


RULES: Mapping[str, Rule] = {
    "no_reference": Rule(
        "agreement",
        _find_no_reference,
        "No agreement is given: {reference}, which all are held against, gave no outputs. "
        "Mend what stopped it (its row has the reason), or measure where torch runs on the CPU.",
    ),
    "at_chance": Rule(
        "accuracy",
        _find_at_chance,
        "{where}: {accuracy_ratio} right cannot be told from guessing ({chance_ratio}). Its speed "
        "says nothing about a useful network: train longer, or check labels and preprocessing.",
    ),
    "disagreement": Rule(
        "agreement",
        _find_disagreement,
        "{where}: another class than {reference} on {different_count} of {images_count} images. "
        "The run's record holds the class of every image (accuracy.top1): look at those images "
        "before trading one contender for the other.",
    ),
    "misplaced": Rule(
        "agreement",
        _find_misplaced,
        "{where}: asked for {requested}, ran on {actual}. Read its figures as {actual} figures; to "
        "have {requested}, install a runtime that supports it here.",
    ),
    "unequal_threads": Rule(
        "agreement",
        _find_unequal_threads,
        "Contenders on the CPU ran with {found} threads, so their speed-ups compare thread counts "
        "too. Set compare.threads to one number for all.",
    ),
    "unequal_precision": Rule(
        "agreement",
        _find_unequal_precision,
        "Contenders computed in {found}, so their speed-ups compare precisions too. Compare only "
        "rows of equal precision, or run the others in float32.",
    ),
    "noisy": Rule(
        "latency",
        _find_noisy,
        "{where}: noisy. The middle half of the block medians spans {spread_ratio} of their median "
        "(limit {limit_ratio}). Close other programs and set compare.rounds above {rounds_count}.",
    ),
    "drifting": Rule(
        "latency",
        _find_drifting,
        "{where}: drifting. The last third of the rounds was {drift_ratio} {direction} than the "
        "first (limit {limit_ratio}), so the median mixes two states of the machine. Let other "
        "work end or the machine cool, then measure again.",
    ),
    "few_calls": Rule(
        "latency",
        _find_few_calls,
        "{where}: no p95, which needs {needed_count} timed calls and had {calls_count}. "
        "Set compare.calls={per_block_count}.",
    ),
    "few_rounds": Rule(
        "latency",
        _find_few_rounds,
        "No interval of a speed-up is given: it takes {needed_count} rounds, and there were "
        "{rounds_count}. Set compare.rounds to {needed_count} or more.",
    ),
    "parity_failed": Rule(
        "export",
        _find_parity_failed,
        "{where}: the .onnx file does not compute what the checkpoint computes: {reason}. Do not "
        "use it, and do not read its speed as the network's.",
    ),
    "fold_without_effect": Rule(
        "export",
        _find_fold_without_effect,
        "The network has no BatchNorm, so folding changed nothing: a difference in speed between "
        "folded and unfolded rows is noise, and shows how much of it there is. "
        "Read the unfolded rows.",
    ),
    "folded_by_exporter": Rule(
        "export",
        _find_folded_by_exporter,
        "{where}: the exporter ({exporter}) folded BatchNorm by itself, so this file does not show "
        "what foldbench's folding gains. Compare folded with unfolded in torch instead.",
    ),
    "batchnorm_left": Rule(
        "export",
        _find_batchnorm_left,
        "{where}: {left_count} BatchNorm left after folding ({reason}). The gain of folding is "
        "partial: put each BatchNorm right after the only layer that feeds it.",
    ),
}
"""Every kind of warning, in the order in which they are shown."""

"""What a reader of a run should be warned of: kinds with numbers, and what to do about each.

A rule finds; its text says what was found and what to do that was not done already. Texts have
named slots: ``{where}`` is the list of rows concerned, every other one a number of the advice,
whose name carries its unit. Numbers are put into words in `reports` alone.
"""

from collections.abc import Iterator, Mapping

from foldbench.bench.analysis.advice.clocks import CLOCK_RULES
from foldbench.bench.analysis.advice.export import EXPORT_RULES
from foldbench.bench.analysis.advice.images import IMAGE_RULES
from foldbench.bench.analysis.advice.latency import LATENCY_RULES
from foldbench.bench.analysis.advice.machine import MACHINE_RULES
from foldbench.bench.analysis.advice.rule import Advice, Number, Rule, Topic, setting
from foldbench.bench.analysis.advice.scenarios import SCENARIO_RULES
from foldbench.bench.analysis.estimates import wilson_interval
from foldbench.bench.analysis.speedups import completed, rounding_exceeded
from foldbench.bench.records import Run
from foldbench.bench.records.published import PublishedRun

__all__ = ["RULES", "Advice", "Rule", "Topic", "advise"]


def advise(run: Run) -> tuple[Advice, ...]:
    """Return every warning that the records of `run` give cause for, in the order of RULES."""
    if isinstance(run, PublishedRun):
        return tuple(Advice(**one) for one in run.summary["warnings"] if one["kind"] in RULES)
    return tuple(advice for kind, rule in RULES.items() for advice in rule.find(run, kind))


def _find_no_reference(run: Run, kind: str) -> Iterator[Advice]:
    scored = [m.accuracy for m in completed(run) if m.accuracy is not None]
    if scored and not any(accuracy.agreement for accuracy in scored):
        yield Advice(kind, numbers={"reference": run.reference})


def _find_at_chance(run: Run, kind: str) -> Iterator[Advice]:
    chance = 1 / max(len(run.checkpoint.classes), 1)
    for m in completed(run):
        correct = m.accuracy.correct if m.accuracy else None
        if m.accuracy is None or correct is None or run.checkpoint.random_weights:
            continue
        if m.accuracy.total == 0:
            continue
        low, _ = wilson_interval(correct, m.accuracy.total)
        share = correct / m.accuracy.total
        if low <= chance:
            numbers = {"accuracy_ratio": share, "chance_ratio": chance}
            yield Advice(kind, m.contender, None, chance - share, numbers)


def _find_disagreement(run: Run, kind: str) -> Iterator[Advice]:
    for m in completed(run):
        agreement = m.accuracy.agreement if m.accuracy else None
        if agreement and agreement.top1_equal < agreement.images:
            different = agreement.images - agreement.top1_equal
            numbers: dict[str, Number] = {
                "different_count": different,
                "images_count": agreement.images,
                "reference": run.reference,
            }
            yield Advice(kind, m.contender, None, different, numbers)


def _find_other_answers(run: Run, kind: str) -> Iterator[Advice]:
    for m in completed(run):
        agreement = m.accuracy.agreement if m.accuracy else None
        limit = rounding_exceeded(m)
        if agreement and limit is not None:
            off = agreement.max_rel_difference
            numbers: dict[str, Number] = {
                "off_ratio": off,
                "limit_ratio": limit,
                "precision": m.precision,
                "reference": run.reference,
            }
            yield Advice(kind, m.contender, None, off, numbers)


def _find_misplaced(run: Run, kind: str) -> Iterator[Advice]:
    for m in completed(run):
        actual = (m.actual_device or m.requested_device).partition(":")[0]
        if actual != m.requested_device:
            numbers = {"requested": m.requested_device, "actual": actual}
            yield Advice(kind, m.contender, None, 0.0, numbers)


def _find_unequal_threads(run: Run, kind: str) -> Iterator[Advice]:
    on_cpu = [m for m in completed(run) if m.actual_device == "cpu" and m.threads is not None]
    found = sorted({m.threads for m in on_cpu if m.threads is not None})
    asked = setting(run, "threads")
    if len(found) > 1 and not isinstance(asked, list | tuple):
        yield Advice(
            kind, numbers={"found": " and ".join(map(str, found)), "most_count": found[-1]}
        )


def _find_unequal_precision(run: Run, kind: str) -> Iterator[Advice]:
    others = [m for m in completed(run) if m.precision != "float32"]
    if len(others) < len(completed(run)):
        found = " and ".join(sorted({m.precision for m in others}))
        for m in others:
            yield Advice(kind, m.contender, numbers={"found": found})


RULES: Mapping[str, Rule] = {
    "no_reference": Rule(
        "agreement",
        _find_no_reference,
        "No agreement is given: {reference}, which all are held against, gave no outputs. "
        "Fix what stopped it (its row has the reason), or measure where torch runs on the CPU.",
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
    "other_answers": Rule(
        "agreement",
        _find_other_answers,
        "{where}: its logits differ from those of {reference} by {off_ratio} of the largest; "
        "rounding in {precision} explains {limit_ratio}. It computes something else and is not "
        "called the fastest: use another version of its runtime, or report the network to it.",
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
        "Computed in {found}, not in float32 as the other rows: the speed-up over those is the "
        "precision's as well. What it cost is in this table and in the accuracy.",
    ),
    **IMAGE_RULES,
    **MACHINE_RULES,
    **CLOCK_RULES,
    **LATENCY_RULES,
    **SCENARIO_RULES,
    **EXPORT_RULES,
}
"""Every kind of warning, in the order in which they are shown."""

"""The answer of a report in a few sentences, from verdicts alone: nothing unresolved is claimed.

Many rows are many claims: only verdicts that stand after Holm's correction over all rows of the
comparison are used here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from foldbench.bench import units
from foldbench.bench.analysis.advice.rule import Advice
from foldbench.bench.analysis.advice.rules import advise
from foldbench.bench.analysis.networks import grouped, network_rows, reference_of
from foldbench.bench.analysis.speedups import contenders, keeps_accuracy, with_other_answers
from foldbench.bench.records import LOUD_SHARE, Run
from foldbench.reports.rows.accuracy import AccuracyRow, accuracy_rows, scored_rows
from foldbench.reports.rows.latency import LatencyRow, host_rows
from foldbench.reports.rows.scenarios import scenarios_of
from foldbench.reports.sections.answers import tell_answers
from foldbench.reports.sections.notes import sentence
from foldbench.reports.text.labels import Labelled, label_in, told_baselines
from foldbench.reports.text.names import spoken


@dataclass(frozen=True)
class Place:
    """One run's contenders at one batch size, held against one reference."""

    label: str
    run: Run
    reference: str
    batch_size: int
    rows: tuple[LatencyRow, ...]
    """Without the reference itself."""

    def fastest(self) -> LatencyRow | None:
        """Return the one furthest ahead of those that are faster and keep the accuracy."""
        kept = [row for row in self._faster() if self._keeps_accuracy(row)]
        return max(kept, key=lambda row: row.speedup_ratio or 0.0, default=None)

    def faster_at_a_cost(self) -> tuple[LatencyRow, ...]:
        """Return those that are ahead of `fastest`, but are not shown to keep the accuracy."""
        best = self.fastest()
        least = (best.speedup_ratio or 0.0) if best else 0.0
        costly = [row for row in self._faster() if not self._keeps_accuracy(row)]
        return tuple(row for row in costly if (row.speedup_ratio or 0.0) > least)

    def cost_of(self, row: LatencyRow) -> str:
        """Return why a row that is ahead of `fastest` is not it, as a clause."""
        other = row.contender in with_other_answers(self.run)
        return "with other answers" if other else "not shown to keep the accuracy"

    def slower(self) -> tuple[LatencyRow, ...]:
        """Return those that are behind the reference."""
        return tuple(row for row in self.rows if row.verdict == "slower" and row.is_claimed)

    def _faster(self) -> list[LatencyRow]:
        return [row for row in self.rows if row.verdict == "faster" and row.is_claimed]

    def _keeps_accuracy(self, row: LatencyRow) -> bool:
        found = next((m for m in contenders(self.run) if m.contender == row.contender), None)
        return found is not None and keeps_accuracy(self.run, found)


def build_answer(labelled: Labelled) -> tuple[str, ...]:
    """Return the sentences: what spoils the accuracy, `tell_results`, then `tell_answers`."""
    return (*warn_of_answers(labelled), *tell_results(labelled), *tell_answers(labelled))


def tell_results(labelled: Labelled) -> tuple[str, ...]:
    """Return the sentences, the most important first: speed, accuracy, what did not run."""
    paths = [place for label, run in labelled for place in places_of(label, run)]
    keys = sorted(dict.fromkeys((p.batch_size, p.reference) for p in paths), key=itemgetter(0))
    groups = [[p for p in paths if (p.batch_size, p.reference) == key] for key in keys]
    groups.sort(key=lambda group: not any(place.fastest() for place in group))
    speed = [line for group in groups for line in _summaries(group, len(labelled) > 1)]
    without = (*_unreferenced(labelled), *_driven(labelled))
    return (*_networks(labelled), *speed, *without, *_accuracy(labelled), *_lost(labelled))


_MAKE_ANSWERS_WRONG = ("other_order", "other_input")
"""Rules: whatever is measured then, it is not the network as it was trained."""
_REPEATED = ("trained_on", "two_classes")
"""Rules about repeated images; their severity is the share."""


def warn_of_answers(labelled: Labelled) -> Iterator[str]:
    """Yield why the accuracy is probably not that of the network as trained, on unseen images."""
    for label, run in labelled:
        found = [advice for advice in advise(run) if _spoils_accuracy(advice)]
        for kind in dict.fromkeys(advice.kind for advice in found):
            text = sentence([advice for advice in found if advice.kind == kind])
            yield f"{label}: {text}" if len(labelled) > 1 else text


def _spoils_accuracy(advice: Advice) -> bool:
    repeated = advice.kind in _REPEATED and advice.severity > LOUD_SHARE
    return repeated or advice.kind in _MAKE_ANSWERS_WRONG


def _networks(labelled: Labelled) -> Iterator[str]:
    """Yield, for networks in the same rounds, which one is faster than the reference."""
    runs = grouped([run for _, run in labelled])
    if not runs:
        return
    names = {id(run): label for label, run in labelled}
    reference = reference_of(runs)
    rows = network_rows(runs)
    smallest = min((row.batch_size for row in rows), default=0)
    for row in rows:
        if row.batch_size != smallest or row.speedup is None or row.verdict is None:
            continue
        ratio, span = units.estimate(row.speedup.point, row.speedup.low, row.speedup.high)
        claim = row.verdict if row.is_claimed else ""
        verdict = {
            "faster": f"{ratio} times (95 % interval {span}) as fast as",
            "slower": f"slower than, {ratio} times (95 % interval {span}) as fast as,",
        }.get(claim, "not resolved from")
        yield (
            f"At batch {units.count(row.batch_size)} on {row.device}, {names[id(row.run)]} "
            f"({spoken(row.contender)}) is {verdict} {names[id(reference)]}."
        )


def places_of(label: str, run: Run) -> Iterator[Place]:
    """Yield the batch sizes of each baseline of a run, from host to host."""
    rows = [row for row in host_rows(run) if row.batch_size is not None]
    for key in dict.fromkeys((row.speedup_reference, row.batch_size) for row in rows):
        reference, batch_size = key
        if reference is not None and batch_size is not None:
            here = [row for row in rows if (row.speedup_reference, row.batch_size) == key]
            others = tuple(row for row in here if row.contender != reference)
            yield Place(label, run, reference, batch_size, others)


def _summaries(group: Sequence[Place], many: bool) -> Iterator[str]:
    """Yield what the runs of `group`, at one batch size, found against one reference."""
    where = f"At batch {units.count(group[0].batch_size)}"
    best = [(place, row) for place in group if (row := place.fastest())]
    winners = {row.contender for _, row in best}
    if len(group) > 1 and len(winners) == 1 and len(best) == len(group):
        (place, row), *others = best
        times = [f"{_times_as_fast(row)} with {place.label}"]
        times += [f"{_times(row)} with {place.label}" for place, row in others]
        winner, reference = spoken(winners.pop()), spoken(place.reference)
        yield (
            f"{where}, {winner} is faster than {reference} in every run: {_listed(times)}"
            f"{_same_classes(best)}."
        )
        return
    labels: dict[str, list[str]] = {}
    for place in group:
        labels.setdefault(_finding(place), []).append(place.label)
    for finding, named in labels.items():
        yield f"{where}, {f'{_listed(named)}: ' if many else ''}{finding}."


def _finding(place: Place) -> str:
    best = place.fastest()
    if best is None:
        return f"{_nothing_faster(place)}{_costly(place)}"
    rivals = [row for row in place.rows if row is not best and _overlap(row, best)]
    overlapping = _listed([spoken(row.contender) for row in rivals])
    close = f"; the interval of {overlapping} overlaps it" if rivals else ""
    return (
        f"{spoken(best.contender)} is {_times_as_fast(best)} as "
        f"{spoken(place.reference)}"
        f"{_same_class(place.run, best)}{close}{_costly(place)}{_slower(place)}{_unjudged(place)}"
    )


def _costly(place: Place) -> str:
    by_cost: dict[str, list[str]] = {}
    for row in place.faster_at_a_cost():
        named = f"{spoken(row.contender)} {_times(row)}"
        by_cost.setdefault(place.cost_of(row), []).append(named)
    return "".join(f"; faster still, but {why}: {_listed(all_)}" for why, all_ in by_cost.items())


def _times_as_fast(row: LatencyRow) -> str:
    ratio, span = _speedup(row)
    return f"{ratio} times (95 % interval {span}) as fast"


def _times(row: LatencyRow) -> str:
    ratio, span = _speedup(row)
    return f"{ratio} ({span})"


def _speedup(row: LatencyRow) -> tuple[str, str]:
    return units.estimate(row.speedup_ratio, row.speedup_low, row.speedup_high)


def _overlap(row: LatencyRow, best: LatencyRow) -> bool:
    return (row.speedup_high or 0.0) >= (best.speedup_low or 0.0)


def _same_class(run: Run, row: LatencyRow) -> str:
    scored = next((a for a in accuracy_rows(run) if a.contender == row.contender), None)
    if scored is None or scored.agreement_images is None:
        return ""
    same, images = units.count(scored.agreement_top1_equal), units.count(scored.agreement_images)
    return f", with {same} of {images} predictions identical"


def _same_classes(best: Sequence[tuple[Place, LatencyRow]]) -> str:
    summaries = {_same_class(place.run, row) for place, row in best}
    return f"{summaries.pop()} each time" if len(summaries) == 1 and "" not in summaries else ""


def _slower(place: Place) -> str:
    slower = [f"{spoken(row.contender)} {_times(row)}" for row in place.slower()]
    return f"; slower: {_listed(slower)}" if slower else ""


def _unjudged(place: Place) -> str:
    names = [spoken(row.contender) for row in place.rows if row.verdict is None]
    return f"; too few clean rounds to judge {_listed(names)}" if names else ""


def _nothing_faster(place: Place) -> str:
    reference = spoken(place.reference)
    if not place.rows:
        return f"nothing was timed beside {reference}, so nothing is faster or slower"
    judged = [row for row in place.rows if row.verdict is not None]
    if not judged:
        return (
            "too few rounds were made, or left undisturbed, to call anything faster or slower than "
            f"{reference}"
        )
    unresolved = [spoken(row.contender) for row in judged if not row.is_claimed]
    if not unresolved:
        return f"nothing is faster than {reference}{_slower(place)}{_unjudged(place)}"
    floor = max(row.noise_floor or 0.0 for row in judged)
    own = f" (A/A difference {units.by_name('_ratio', floor)})"
    return (
        f"no significant difference from {reference}{own if floor else ''} for "
        f"{_listed(unresolved)}{_slower(place)}{_unjudged(place)}"
    )


def _unreferenced(labelled: Labelled) -> Iterator[str]:
    """Yield what can be said of rows without the baseline beside them on their device."""
    for label, run in labelled:
        alone = [
            row
            for row in host_rows(run)
            if row.median_s is not None and row.speedup_reference is None
        ]
        if alone:
            of = label_in(labelled, label, before=" for ")
            medians = _listed([f"{_median(row)} for {spoken(row.contender)}" for row in alone])
            yield (
                f"Without {told_baselines([(label, run)])} on the same device there is no speed-up"
                f"{of}; median "
                f"latencies: {medians}."
            )


def _median(row: LatencyRow) -> str:
    return f"{units.milliseconds(row.median_s)} ms at batch {units.count(row.batch_size)}"


def _driven(labelled: Labelled) -> Iterator[str]:
    """Yield which runs were measured by scenarios, which have no speed-up."""
    for label, run in labelled:
        scenarios = scenarios_of(run)
        if scenarios:
            of = label_in(labelled, label, after=": ")
            yield (
                f"{of}LoadGen's scenarios ({', '.join(scenarios)}) were measured in place of "
                "rounds: what each contender reached is below, and there is no speed-up."
            )


def _accuracy(labelled: Labelled) -> Iterator[str]:
    summaries = [_accuracy_summary(label, run, len(labelled) > 1) for label, run in labelled]
    found = [text for text in summaries if text]
    if found:
        yield f"Accuracy, top-1 with its 95 % interval: {'; '.join(found)}."
    for label, run in labelled:
        if not run.data.labelled:
            of = label_in(labelled, label, after=": ")
            yield f"{of}{_unlabelled(run)}"


def _unlabelled(run: Run) -> str:
    """Return what is said in place of an accuracy where the images have no labels."""
    rows = [row for row in accuracy_rows(run) if row.agreement_images is not None]
    flips = {
        row.contender: (row.agreement_images or 0) - (row.agreement_top1_equal or 0)
        for row in rows
        if row.contender != run.reference
    }
    text = f"{units.count(run.data.test_count)} images without labels, so no accuracy"
    if not flips:
        return f"{text}."
    worst, reference = max(flips, key=lambda name: flips[name]), spoken(run.reference)
    if not flips[worst]:
        return f"{text}; every contender gives them the classes that {reference} gives."
    return (
        f"{text}; {spoken(worst)} gives {units.count(flips[worst])} of them another class than "
        f"{reference}, the others no more."
    )


def _accuracy_summary(label: str, run: Run, many: bool) -> str:
    rows = scored_rows(run)
    if not rows:
        return ""
    first = rows[0]
    span = units.span(units.percent(first.low), units.percent(first.high))
    text = f"{units.percent(first.accuracy)} % ({span}){_others(rows, first)}"
    if first.homework_accuracy is not None:
        text += f"; the homework reports {units.percent(first.homework_accuracy)} %"
    return f"{label} {text.replace(';', ',')}" if many else text


def _others(rows: Sequence[AccuracyRow], first: AccuracyRow) -> str:
    gaps = [(row.accuracy or 0.0) - (first.accuracy or 0.0) for row in rows if row is not first]
    if not gaps:
        return ""
    widest = max(gaps, key=abs)
    if widest == 0:
        return " for every contender"
    return f" for {spoken(first.contender)}, others up to {units.points(widest)} points from it"


def _lost(labelled: Labelled) -> Iterator[str]:
    lost = [m for _, run in labelled for m in contenders(run) if m.status != "ok"]
    if lost:
        rows = "row" if len(lost) == 1 else "rows"
        yield f"{units.count(len(lost))} {rows} did not run: the reasons are below."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

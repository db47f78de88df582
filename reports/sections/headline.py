"""The answer of a report in two sentences: what is fastest, and what that costs in accuracy.

The long form, with every contender and interval, is `reports.sections.answer`; both make their
claims from the same verdicts.
"""

from collections.abc import Iterator, Mapping, Sequence

from foldbench.bench import units
from foldbench.bench.records import Run
from foldbench.reports.rows.accuracy import AccuracyRow, accuracy_rows, scored_rows
from foldbench.reports.rows.latency import LatencyRow, latency_rows
from foldbench.reports.rows.scenarios import scenarios_of
from foldbench.reports.sections.answer import Place, places_of, tell_results, warn_of_answers
from foldbench.reports.sections.answers import tell_answers
from foldbench.reports.text.labels import Labelled, told_baselines
from foldbench.reports.text.names import spoken


def build_headline(labelled: Labelled) -> tuple[str, ...]:
    """Return the sentence about speed, and the one about accuracy where there is one.

    Before them stands what spoils the accuracy, if anything; behind them what bundles answered.
    """
    return (*warn_of_answers(labelled), *_results(labelled), *tell_answers(labelled))


def _results(labelled: Labelled) -> tuple[str, ...]:
    if len(labelled) > 1:
        sentences = tell_results(labelled)
        accuracy = [text for text in sentences if text.startswith("Accuracy")]
        return (
            (*sentences[:1], *accuracy[:1]) if sentences[:1] != tuple(accuracy[:1]) else sentences
        )
    label, run = labelled[0]
    best, speed = _speed(label, run)
    return tuple(text for text in (speed, _accuracy(run, best)) if text)


def _speed(label: str, run: Run) -> tuple[str, str]:
    """Return the contender that the sentence is about, and the sentence."""
    if scenarios_of(run):
        return "", f"Measured by LoadGen's {', '.join(scenarios_of(run))}: there is no speed-up."
    places = [place for place in places_of(label, run) if place.rows]
    if not places:
        return _alone(run)
    won = [(place, best) for place in places if (best := place.fastest()) is not None]
    if won:
        return _fastest(run, won, places)
    reference = spoken(places[0].reference)
    if not any(row.verdict for place in places for row in place.rows):
        return "", f"No contender can be called faster or slower than {reference}."
    alike = [place for place in places if place.reference == places[0].reference]
    sizes = _listed([units.count(place.batch_size) for place in alike])
    text = f"Nothing is significantly faster than {reference} at batch {sizes}"
    costly = _costly(places[0])
    return "", f"{text}.{costly}" if costly else f"{text}{_slowest(alike)}."


def _fastest(
    run: Run, won: Sequence[tuple[Place, LatencyRow]], places: Sequence[Place]
) -> tuple[str, str]:
    """Return what the fastest at the smallest batch size reached there and at the others."""
    smallest = min(place.batch_size for place, _ in won)
    here = [(place, best) for place, best in won if place.batch_size == smallest]
    place, best = min(here, key=lambda found: found[1].median_s or 0.0)
    medians = _medians(run)
    before = medians.get((place.reference, place.batch_size))
    times = f"{_ratio(best)} as fast as {spoken(place.reference)}"
    if before is not None and best.median_s is not None:
        now_ms, before_ms = units.milliseconds(best.median_s), units.milliseconds(before)
        instead = f"{now_ms} ms instead of {before_ms} ms"
    text = f"{spoken(best.contender)} is {times} at batch {units.count(place.batch_size)}"
    if before is not None:
        text += f" ({instead})"
    others = [
        f"{_judged(row)} at {units.count(other.batch_size)}"
        for other in places
        if other.reference == place.reference and other.batch_size != place.batch_size
        for row in other.rows
        if row.contender == best.contender
    ]
    return best.contender, f"{text}{''.join(f', {told}' for told in others[:2])}.{_costly(place)}"


def _medians(run: Run) -> Mapping[tuple[str, int | None], float | None]:
    rows = [row for row in latency_rows(run) if row.boundary == "host"]
    return {(row.contender, row.batch_size): row.median_s for row in rows}


def _judged(row: LatencyRow) -> str:
    if row.verdict is None:
        return "no verdict"
    claimed = row.is_claimed and row.verdict != "no difference resolved"
    return _ratio(row) if claimed else "no significant difference"


def _ratio(row: LatencyRow) -> str:
    ratio, _ = units.estimate(row.speedup_ratio, row.speedup_low, row.speedup_high)
    return f"{ratio}x"


def _costly(place: Place) -> str:
    """Return a sentence on the fastest of those that are not shown to keep the accuracy."""
    costly = place.faster_at_a_cost()
    if not costly:
        return ""
    first = max(costly, key=lambda row: row.speedup_ratio or 0.0)
    why = place.cost_of(first).capitalize()
    return f" {why}: {spoken(first.contender)}, {_ratio(first)}."


def _slowest(places: Sequence[Place]) -> str:
    slower = [(place, row) for place in places for row in place.slower()]
    if not slower:
        return ""
    place, row = min(slower, key=lambda found: found[1].speedup_ratio or 1.0)
    where = f"at batch {units.count(place.batch_size)}"
    return f"; {spoken(row.contender)} is slower {where}, {_ratio(row)}"


def _alone(run: Run) -> tuple[str, str]:
    """Return what can be said without a baseline on the same device, or beside it."""
    rows = [row for row in latency_rows(run) if row.median_s is not None and row.boundary == "host"]
    if not rows:
        found = (row.reason for row in run.measurements if row.status == "ok" and row.reason)
        reason = next(found, None)
        return "", f"Nothing was timed: {reason}." if reason else "Nothing was timed."
    first = min(rows, key=lambda row: (row.batch_size or 0, row.median_s or 0.0))
    took = f"{units.milliseconds(first.median_s)} ms at batch {units.count(first.batch_size)}"
    name = spoken(first.contender)
    others = any(row.contender != row.speedup_reference for row in rows)
    baseline = told_baselines([("", run)])
    why = f"without {baseline} on the same device" if others else "nothing was timed beside it"
    return first.contender, f"{name} takes {took}; {why}, so there is no speed-up."


def _accuracy(run: Run, contender: str) -> str:
    """Return what `contender` gets right, or how far it agrees where no accuracy is known."""
    rows = {row.contender: row for row in accuracy_rows(run) if row.status == "ok"}
    first = next(iter(scored_rows(run)), None)
    row = rows.get(contender, first or rows.get(run.reference))
    if row is None:
        return ""
    return "".join([*_share(run, row, first), *_agreement(row)]) + "." if row else ""


def _share(run: Run, row: AccuracyRow, first: AccuracyRow | None) -> Iterator[str]:
    if row.accuracy is None or first is None or first.accuracy is None:
        yield _why_none(run)
        return
    span = units.span(units.percent(row.low), units.percent(row.high))
    yield f"Top-1 accuracy {units.percent(row.accuracy)} % (95 % CI {span})"
    if row.contender != first.contender:
        same = row.correct == first.correct
        yield ", unchanged" if same else f" instead of {units.percent(first.accuracy)} %"
    if row.homework_accuracy is not None:
        yield f"; the homework reports {units.percent(row.homework_accuracy)} %"


def _why_none(run: Run) -> str:
    if run.checkpoint.random_weights:
        return "Random weights, so no accuracy"
    return "No labels, so no accuracy" if not run.data.labelled else "No accuracy was taken"


def _agreement(row: AccuracyRow) -> Iterator[str]:
    if row.agreement_images is not None:
        same, images = row.agreement_top1_equal, row.agreement_images
        yield f"; {units.count(same)} of {units.count(images)} predictions identical"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

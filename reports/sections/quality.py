"""How far a measurement can be trusted, in one line: its worst fault and the command that helps."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from foldbench.bench.analysis.advice.rule import Advice
from foldbench.bench.analysis.advice.rules import advise
from foldbench.bench.analysis.networks import grouped
from foldbench.bench.records import FLOAT64, Run
from foldbench.bench.units import by_name, count
from foldbench.reports.rows.latency import LatencyRow, latency_rows
from foldbench.reports.rows.scenarios import scenarios_of
from foldbench.reports.text.labels import Labelled, label_in

Level = Literal["reliable", "short", "noisy", "inconclusive"]

_CAUSES = {
    "interrupted": "the comparison was interrupted {reached}",
    "throttled": "{chip} was slowed down by {reasons}",
    "foreign_gpu": "other processes used the same GPU",
    "loaded": "threads waited for a CPU in {dirty_count} of {rounds_count} rounds",
    "foreign_load": "other programs kept {cores} cores busy",
    "stolen": "the hypervisor gave {steal_ratio} of the time to other machines",
    "reference_differs": "the baseline timed twice differed from itself by {off_ratio}",
    "state_changed": "the machine ran at two speeds {gap_ratio} apart",
    "drifting": "the last rounds were {drift_ratio} {direction} than the first",
    "noisy": "half of the rounds lie {spread_ratio} apart",
    "clock_moved": "the clock of the {chip} moved by {moved_ratio}",
    "not_steady": "the times had not settled when the first round began",
    "floor_only": "{clean_count} of {rounds_count} rounds were undisturbed, a speed-up takes "
    "{needed_count}",
    "few_rounds": "{rounds_count} rounds were undisturbed, an interval takes {needed_count}",
    "budget_spent": "the budget of {budget_s} ended after {clean_count} of {rounds_count} rounds",
    "few_processes": "{made_count} of {asked_count} processes fitted into the budget",
    "stopped_early": "the rounds stopped as soon as the interval was narrow",
    "unobservable": "this system does not tell which rounds were disturbed",
}
"""What spoils a measurement, the worst first; the names of slots are those of the advice."""
_UNJUDGED = ("interrupted", "floor_only", "few_rounds", "loaded", "foreign_load")
"""Why there is no verdict at all, the nearest cause first."""
_LONGER = ("floor_only", "budget_spent", "few_processes")
_SHORT = ("interrupted", "few_rounds", "budget_spent", "few_processes", "stopped_early")
"""What made a measurement short, without making it noisy."""
_REPEATS = 3


@dataclass(frozen=True)
class Quality:
    """Whether the figures can be relied on, why not, and what to do."""

    level: Level
    cause: str
    """A clause without a full stop."""
    advice: str = ""
    """What to do, before `command`; empty where nothing is to be done."""
    command: str = ""

    @property
    def title(self) -> str:
        """The level in words."""
        return _TITLES[self.level]


_TITLES: Mapping[Level, str] = {
    "reliable": "Reliable",
    "short": "Short measurement",
    "noisy": "Noisy measurement",
    "inconclusive": "Inconclusive",
}


def quality_of(labelled: Labelled) -> Quality | None:
    """Return the quality of the worst of the runs; None where no rounds were made."""
    together = [run.name for run in grouped([run for _, run in labelled])]
    found = [
        (label, run, one)
        for label, run in labelled
        if not scenarios_of(run) and (one := _quality(run, together or [run.name])) is not None
    ]
    if not found:
        return None
    order: list[Level] = ["inconclusive", "noisy", "short", "reliable"]
    label, _, worst = min(found, key=lambda item: order.index(item[2].level))
    if worst.level == "reliable":
        return worst
    return Quality(
        worst.level,
        f"{label_in(labelled, label, after=': ')}{worst.cause}",
        worst.advice,
        worst.command,
    )


def _quality(run: Run, names: Sequence[str]) -> Quality | None:
    rows = [row for row in latency_rows(run) if row.median_s is not None]
    judged = [row for row in rows if row.contender != row.speedup_reference]
    judged = [row for row in judged if row.speedup_reference is not None]
    if not rows:
        return None
    advice = advise(run)
    if judged and not any(row.verdict for row in judged):
        worst = next(_by_kind(advice, _UNJUDGED), None)
        cause = _told(worst) if worst else "too few rounds were undisturbed"
        return Quality("inconclusive", cause, *_remedy(run, names, worst))
    noisy = tuple(kind for kind in _CAUSES if kind not in _SHORT)
    worst = next(_by_kind(advice, (*noisy, *_SHORT)), None)
    if worst is None:
        return Quality("reliable", _steady(rows))
    level: Level = "short" if worst.kind in _SHORT else "noisy"
    return Quality(level, _told(worst), *_remedy(run, names, worst))


def _by_kind(advice: Sequence[Advice], kinds: Sequence[str]) -> Iterator[Advice]:
    """Yield the worst advice of each of `kinds`, in their order."""
    for kind in kinds:
        alike = [one for one in advice if one.kind == kind]
        if alike:
            yield max(alike, key=lambda one: one.severity)


def _told(advice: Advice) -> str:
    numbers = {name: by_name(name, value) for name, value in advice.numbers.items()}
    where = "" if advice.batch_size is None else f" (batch {count(advice.batch_size)})"
    return _CAUSES[advice.kind].format(**numbers) + where


def _steady(rows: Sequence[LatencyRow]) -> str:
    """Return what a reliable measurement rests on."""
    clean = min(row.clean_rounds or 0 for row in rows)
    floors = [row.noise_floor for row in rows if row.noise_floor is not None]
    own = f", A/A difference at most {by_name('_ratio', max(floors))}" if floors else ""
    return f"{count(clean)} undisturbed rounds or more for each row{own}"


def _remedy(run: Run, names: Sequence[str], advice: Advice | None) -> tuple[str, str]:
    """Return what to do and the command that does it; blanks for a bundle, which is elsewhere."""
    if run.reference == FLOAT64:
        return "", ""
    kind = advice.kind if advice else ""
    numbers = advice.numbers if advice else {}
    if kind == "interrupted":
        return "Resume it", shlex.join(run.command)
    if kind in _LONGER and str(numbers.get("longer", "")).startswith("--"):
        quiet = "Let other programs end, then give it" if numbers.get("remedy") else "Give it"
        quiet = "Give it" if numbers.get("remedy") == "Give" else quiet
        return f"{quiet} more time", _again(run, names, *str(numbers["longer"]).split())
    if kind == "few_rounds":
        return "Make more rounds", _again(run, names, "--rounds", str(numbers["needed_count"]))
    if kind == "not_steady":
        return "Warm up longer", _again(
            run, names, "--set", f"compare.warm_up_s={numbers['longer']}"
        )
    if ((run.config.get("compare") or {}).get("repeat") or 1) >= _REPEATS:
        return "Measure again on an idle machine", _again(run, names)
    return "Repeat on an idle machine", _again(run, names, "--repeat", str(_REPEATS))


_KEPT = ("--backends", "--devices", "--batch-sizes", "--protocol", "--data", "--runs")


def _again(run: Run, names: Sequence[str], *more: str) -> str:
    """Return the command that compares as `run` was, with other options where given."""
    kept: list[str] = []
    given = [part for word in run.command[2:] for part in _halves(word)]
    for option, value in pairwise(given):
        if option in _KEPT and option not in more:
            kept += [option, value]
    return shlex.join(["bench", "compare", *names, *kept, *more])


def _halves(word: str) -> list[str]:
    """Return ``--option=value`` as two words, every other word as it is."""
    return word.split("=", 1) if word.startswith("--") and "=" in word else [word]

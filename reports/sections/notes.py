"""Footnotes: every deviation and warning once, numbered, and which rows refer to it."""

from collections.abc import Sequence
from itertools import groupby

from foldbench.bench.analysis.advice.rule import Advice, Number, Topic
from foldbench.bench.analysis.advice.rules import RULES, advise
from foldbench.bench.records import Boundary, Run
from foldbench.bench.units import by_name
from foldbench.reports.rows.homework import told_deviations
from foldbench.reports.rows.latency import latency_rows
from foldbench.reports.text.labels import Labelled
from foldbench.reports.text.names import spoken


class Notes:
    """The numbered notes of a report; equal texts share one number."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.coursework_count = 0
        """How many of the first ones are about the homework."""
        self._marks: dict[tuple[str, str, str | None, int | None, Boundary], list[int]] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        """All notes, in the order of their numbers."""
        return tuple(self._texts)

    def add(self, text: str) -> int:
        """Return the number of the note `text`, which is new or was there before."""
        if text not in self._texts:
            self._texts.append(text)
        return self._texts.index(text) + 1

    def mark(
        self,
        number: int,
        label: str,
        topic: str,
        subject: str | None,
        batch_size: int | None,
        boundary: Boundary = "host",
    ) -> None:
        """Make the row of a run's table about `topic` refer to a note."""
        row = label, topic, subject, batch_size, boundary
        numbers = self._marks.setdefault(row, [])
        if number not in numbers:
            numbers.append(number)

    def of(
        self,
        label: str,
        topic: Topic,
        subject: str | None,
        batch_size: int | None = None,
        boundary: Boundary = "host",
    ) -> str:
        """Return the numbers that a row refers to, such as ``1–4, 6``."""
        numbers = self._marks.get((label, topic, subject, batch_size, boundary), [])
        return ", ".join(_ranges(sorted(numbers)))


def take_notes(runs: Labelled) -> Notes:
    """Return the notes on labelled runs: deviations from the homework first, warnings after."""
    notes = Notes()
    for label, run in runs:
        for text in told_deviations(run):
            _mark_scored(notes, notes.add(text), label, run)
    notes.coursework_count = len(notes.texts)
    for label, run in runs:
        if run.checkpoint.random_weights:
            text = f"{run.checkpoint.network} has random weights: no accuracy is given."
            _mark_scored(notes, notes.add(text), label, run)
        if run.checkpoint.batch_dependent:
            text = (
                f"{run.checkpoint.network} answers otherwise for an image when other images are in "
                "its batch: accuracy and agreement are those of the batch size that they were "
                "measured at."
            )
            _mark_scored(notes, notes.add(text), label, run)
        if not all(row.corrected for row in latency_rows(run)):
            notes.add(_UNCORRECTED)
        for kind, group in groupby(advise(run), key=lambda advice: advice.kind):
            found = list(group)
            text = sentence(found)
            number = notes.add(f"{label}: {text}" if len(runs) > 1 else text)
            for advice in found:
                topic = RULES[kind].topic
                row = advice.subject, advice.batch_size, advice.boundary
                notes.mark(number, label, topic, *row)
    return notes


_UNCORRECTED = (
    "Verdicts are those of the version that measured, which did not correct them for the number "
    "of rows: of twenty rows, one may be called faster or slower by chance."
)


def _mark_scored(notes: Notes, number: int, label: str, run: Run) -> None:
    for measurement in run.measurements:
        if measurement.status == "ok" and measurement.accuracy is not None:
            notes.mark(number, label, "accuracy", measurement.contender, None)


def sentence(group: Sequence[Advice]) -> str:
    """Return what warnings of one kind say together, with the numbers of the worst."""
    worst = max(group, key=lambda advice: advice.severity)
    where = _row(worst)
    if len(group) > 1:
        where = f"{len(group)} rows, at worst {where}"
    numbers = {name: _number(name, value) for name, value in worst.numbers.items()}
    return RULES[worst.kind].text.format(where=where, **numbers)


def _number(name: str, value: Number) -> str:
    if name == "reference" and isinstance(value, str):
        return spoken(value)
    return by_name(name, value)


def _row(advice: Advice) -> str:
    if RULES[advice.kind].topic == "export":
        return f"{advice.subject or 'the run'} file"
    subject = spoken(advice.subject) if advice.subject else "the run"
    if advice.batch_size is None:
        return subject
    resident = ", device-resident" if advice.boundary == "device" else ""
    return f"{subject} at batch {advice.batch_size}{resident}"


def _ranges(numbers: Sequence[int]) -> list[str]:
    runs = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    spans = [[number for _, number in group] for _, group in runs]
    return [
        f"{s[0]}–{s[-1]}" if len(s) > 2 else ", ".join(str(number) for number in s) for s in spans
    ]

"""What a warning is, and the rows that warnings are about."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from foldbench.bench.analysis.clean import count_clean_rounds
from foldbench.bench.analysis.speedups import completed
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.records import Boundary, Measurement, Run, Timing

Topic = Literal["accuracy", "agreement", "latency", "scenario", "export"]
Number = float | int | str

FOREIGN_LIMIT_CORES = 0.2
"""Cores kept busy by other programs, from which they are warned of."""


@dataclass(frozen=True)
class Advice:
    """One warning about one row, or about the whole run where `subject` is None."""

    kind: str
    subject: str | None = None
    """A contender; for topic ``export`` the variant of an artifact, for ``scenario`` a test."""
    batch_size: int | None = None
    severity: float = 0.0
    """Orders advice of one kind; the worst one's numbers are shown for all."""
    numbers: Mapping[str, Number] = field(default_factory=dict)
    boundary: Boundary = "host"
    """Within which the row was timed; says nothing without a batch size."""


@dataclass(frozen=True)
class Rule:
    """One kind of warning: which table it is about, how it is found, and its text."""

    topic: Topic
    find: Callable[[Run, str], Iterator[Advice]]
    text: str


def timed(run: Run) -> Iterator[tuple[Measurement, Timing]]:
    """Yield each contender with what was timed of it, one batch size after the other."""
    for measurement in completed(run):
        for timing in measurement.timings:
            yield measurement, timing


def timed_clean(run: Run) -> Iterator[tuple[Measurement, Timing]]:
    """Yield what `timed` does where a round was clean: elsewhere scatter is the other programs'."""
    return ((m, timing) for m, timing in timed(run) if count_clean_rounds(timing))


def about(
    kind: str, m: Measurement, timing: Timing, severity: float, numbers: Mapping[str, Number]
) -> Advice:
    """Return a warning about one contender's times at one batch size."""
    return Advice(kind, m.contender, timing.batch_size, severity, numbers, timing.boundary)


def setting(run: Run, name: str) -> Any:
    """Return a field of the comparison's configuration; its default in records without it."""
    found = (run.config.get("compare") or {}).get(name)
    return CompareSection.model_fields[name].default if found is None else found

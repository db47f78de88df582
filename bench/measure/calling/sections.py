"""Which of the sections are asked for, in the order of the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foldbench.bench import units
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.calling.cold_starts import measure_cold_starts
from foldbench.bench.measure.calling.memory import measure_memory
from foldbench.bench.measure.calling.pauses import measure_pauses
from foldbench.bench.measure.calling.processes import Processes
from foldbench.bench.measure.calling.stages import measure_stages
from foldbench.bench.measure.calling.streams import measure_streams
from foldbench.bench.measure.calling.sweep import measure_sweep
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled

Measure = Callable[[Sequence[Contender], CompareSection, ProgressListener, Processes], None]


@dataclass(frozen=True)
class _Section:
    """What can be measured besides latency back to back."""

    title: str
    asked_by: str
    """Field of compare.calling."""
    measure: Measure


SECTIONS = {
    "pauses": _Section("calls after pauses", "pauses_s", measure_pauses),
    "cold_starts": _Section("cold starts", "cold_starts", measure_cold_starts),
    "memory": _Section("memory", "memory", measure_memory),
    "streams": _Section("calls at once", "streams", measure_streams),
    "sweep": _Section("larger batches", "sweep", measure_sweep),
    "stages": _Section("from file to class", "stages", measure_stages),
}
"""By field of AsCalled."""


def announce_calling(settings: CompareSection, listener: ProgressListener) -> None:
    """Say what is measured after the rounds, and how long that takes at the most."""
    titles = [one.title for one in SECTIONS.values() if getattr(settings.calling, one.asked_by)]
    if titles:
        each, whole = settings.budget_s, len(titles) * settings.budget_s
        listener.note(
            f"after the rounds: {', '.join(titles)}; up to {units.long_duration(each)} each, "
            f"{units.long_duration(whole)} in all, and what processes take to start"
        )


def measure_calling(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Measure the sections that are asked for; what is found is noted in the contenders.

    The contenders' own processes must have ended. What an interrupted comparison has found is not
    measured again. A failure here is a reason in the section, and the contender stays in.
    """
    alive = [c for c in contenders if c.is_ok and c.spec.role == "contender"]
    for part, section in SECTIONS.items():
        if not getattr(settings.calling, section.asked_by):
            continue
        if alive and not all(_has(contender, part) for contender in alive):
            section.measure(alive, settings, listener, processes)


def _has(contender: Contender, part: str) -> bool:
    return bool(getattr(contender.result.as_called or AsCalled(), part))

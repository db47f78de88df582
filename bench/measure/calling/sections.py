"""Which of the sections are asked for, in the order of the report."""

from collections.abc import Callable, Sequence

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
SECTIONS: dict[str, tuple[str, Measure]] = {
    "pauses": ("pauses_s", measure_pauses),
    "cold_starts": ("cold_starts", measure_cold_starts),
    "memory": ("memory", measure_memory),
    "streams": ("streams", measure_streams),
    "sweep": ("sweep", measure_sweep),
    "stages": ("stages", measure_stages),
}
"""Field of AsCalled -> field of compare.calling that asks for it, and what measures it."""


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
    for part, (asked, measure) in SECTIONS.items():
        if not getattr(settings.calling, asked):
            continue
        if alive and not all(_has(contender, part) for contender in alive):
            measure(alive, settings, listener, processes)


def _has(contender: Contender, part: str) -> bool:
    return bool(getattr(contender.result.as_called or AsCalled(), part))

"""Which of the sections are asked for, in the order of the report."""

from collections.abc import Callable, Sequence

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.calling.pauses import measure_pauses
from foldbench.bench.measure.calling.turns import Open
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled

Measure = Callable[[Sequence[Contender], CompareSection, ProgressListener, Open], None]
SECTIONS: dict[str, tuple[str, Measure]] = {"pauses": ("pauses_s", measure_pauses)}
"""Field of AsCalled -> field of compare.calling that asks for it, and what measures it."""


def measure_calling(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    open_: Open,
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
            measure(alive, settings, listener, open_)


def _has(contender: Contender, part: str) -> bool:
    return bool(getattr(contender.result.as_called or AsCalled(), part))

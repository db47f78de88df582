"""Batch sizes doubled until images a second no longer rise, or memory ends."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from foldbench.bench.analysis.sweep import gives_more_images
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.calling.processes import Processes, runner_of
from foldbench.bench.measure.calling.turns import Pass, Turn
from foldbench.bench.measure.running import Contender, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled, Block, SweepSeries
from foldbench.bench.timing.loop import BlockOptions


@dataclass(frozen=True)
class _Batch:
    """One contender at one batch size, in a process of its own: it may run out of memory."""

    row: Contender
    runner: Contender
    size: int

    @property
    def name(self) -> str:
        """What its turn is called."""
        return f"{self.row.label}, batch {self.size}"


def measure_sweep(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Time each contender at twice the batch, in turns with the batch before, while it gives more.

    One that fails keeps its reason at that size, and the others go on.
    """
    smallest = min(settings.batch_sizes)
    series: dict[int, dict[int, SweepSeries]] = {id(c): {} for c in contenders}
    rising, size, offset = list(contenders), 2 * smallest, 0
    share = {"budget_s": settings.budget_s / 8}
    section = settings.model_copy(update=share)
    started = time.monotonic()
    while rising and size <= settings.calling.sweep_most:
        if time.monotonic() - started >= settings.budget_s:
            listener.note(f"larger batches: from {size} on not tried: raise --budget")
            break
        batches = [_Batch(c, runner_of(c), n) for c in rising for n in (size // 2, size)]
        by_runner = {id(batch.runner): batch for batch in batches}
        turns = [Turn(b.name, b.runner, _timer(b, settings)) for b in batches]
        start = _starter(by_runner, settings, processes)
        taken = Pass(f"batch {size // 2} and {size}", section, listener, start).run(turns, 1)
        for batch in batches:
            blocks = tuple(replace(b, round=b.round + offset) for b in taken.blocks[batch.name])
            mine = series[id(batch.row)]
            earlier = mine[batch.size].blocks if batch.size in mine else ()
            reason = taken.reasons.get(batch.name)
            found = SweepSeries(batch_size=batch.size, blocks=(*earlier, *blocks), reason=reason)
            mine[batch.size] = found
        rising = [c for c in rising if _rises(series[id(c)], size)]
        offset += settings.rounds
        size *= 2
    for contender in contenders:
        contender.add_called(AsCalled(sweep=tuple(series[id(contender)].values())))


def _rises(series: dict[int, SweepSeries], size: int) -> bool:
    return gives_more_images(series[size], series[size // 2])


def _starter(
    by_runner: dict[int, _Batch], settings: CompareSection, processes: Processes
) -> Callable[[Contender], None]:
    def start(runner: Contender) -> None:
        batch = by_runner[id(runner)]
        processes.bare(runner, batch.row)
        with failures_of(runner):
            if runner.is_ok:
                worker = runner.require_worker()
                worker.know(processes.answers(batch.row))
                worker.open()
                worker.warm_up(batch.size, settings.warm_up_s)

    return start


def _timer(batch: _Batch, settings: CompareSection) -> Callable[[], Block]:
    options = BlockOptions(settings.calls, settings.block_s, settings.settle_s)
    return lambda: batch.runner.require_worker().time(batch.size, options)[0]

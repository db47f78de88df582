"""Batch sizes doubled until images a second no longer rise, or memory ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foldbench.bench.analysis.estimates import MIN_CLEAN_ROUNDS
from foldbench.bench.analysis.sweep import gives_more_images
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.calling.processes import Processes, runner_of
from foldbench.bench.measure.calling.turns import Pass, Turn, TurnsTaken
from foldbench.bench.measure.running import Contender, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled, Block, SweepSeries
from foldbench.bench.timing.loop import BlockOptions

_ROUNDS = MIN_CLEAN_ROUNDS + 2
"""Of two batch sizes: enough for a verdict."""


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
    tried: dict[str, _Batch] = {}
    found, left_s = TurnsTaken(), settings.budget_s
    rising, size = list(contenders), 2 * min(settings.batch_sizes)
    while rising and size <= settings.calling.sweep_most:
        if left_s <= 0:
            listener.note(f"larger batches: from {size} on not tried: raise --budget")
            break
        batches = [_Batch(c, runner_of(c), n) for c in rising for n in (size // 2, size)]
        turns = [Turn(b.name, b.runner, _timer(b, settings)) for b in batches]
        start = _starter({id(batch.runner): batch for batch in batches}, settings, processes)
        share_s = max(left_s / 2, settings.budget_s / 8)
        shares = {"budget_s": share_s, "rounds": min(settings.rounds, _ROUNDS)}
        section = settings.model_copy(update=shares)
        taken = Pass(f"batch {size // 2} and {size}", section, listener, start).run(turns, 1)
        found.add(taken)
        left_s -= taken.spent_s
        tried |= {batch.name: batch for batch in batches}
        pairs = zip(batches[::2], batches[1::2], strict=True)
        rising = [one.row for half, one in pairs if _rises(half, one, found)]
        size *= 2
    for contender in contenders:
        mine = (batch for batch in tried.values() if batch.row is contender)
        series = tuple(_to_series(batch, found) for batch in mine)
        contender.add_called(AsCalled(sweep=series))


def _to_series(batch: _Batch, found: TurnsTaken) -> SweepSeries:
    return SweepSeries(
        batch_size=batch.size,
        blocks=tuple(found.blocks.get(batch.name, ())),
        reason=found.reasons.get(batch.name),
    )


def _rises(half: _Batch, one: _Batch, found: TurnsTaken) -> bool:
    return gives_more_images(_to_series(one, found), _to_series(half, found))


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

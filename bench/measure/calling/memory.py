"""Memory of each contender, in a process in which nothing is timed."""

from collections.abc import Sequence

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.calling.processes import Processes, runner_of
from foldbench.bench.measure.running import Contender, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled, MemoryUse


def measure_memory(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Have one contender after the other tell its memory; note it in them."""
    listener.begin("memory", len(contenders))
    limit_s = settings.budget_s / len(contenders)
    for number, contender in enumerate(contenders):
        listener.advance(number, contender.label)
        runner = runner_of(contender)
        processes.bare(runner, contender)
        found = None
        with failures_of(runner):
            if runner.is_ok:
                sizes, calls = tuple(sorted(settings.batch_sizes)), settings.calling.memory_calls
                found = runner.require_worker().measure_memory(sizes, calls, limit_s)
        runner.close()
        contender.add_called(AsCalled(memory=found or MemoryUse(reason=runner.result.reason)))
    listener.end()

"""The rounds of a gate: BASE, BASE once more and HEAD, generation after generation of processes."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil

from foldbench.bench import units
from foldbench.bench.analysis.gate import Generations, check_memory, generations_of
from foldbench.bench.analysis.sequential import FIRST_LOOK, SequentialTest, judge_changes
from foldbench.bench.backends import Floats
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.config.gate import GateSection
from foldbench.bench.errors import BackendError
from foldbench.bench.measure.latency import measure_latency
from foldbench.bench.measure.running import Contender, StartWorker, failures_of
from foldbench.bench.measure.series import MeasurementSeries
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job

_LEAST_GENERATIONS = 12
"""That blocks are shortened for, where a generation would take a larger share of the budget."""

Clock = Callable[[], float]
Undecided = Callable[["Gated", GateSection], tuple[int, ...]]
"""Returns the batch sizes to time once more; none ends it."""


@dataclass(frozen=True)
class Rival:
    """One of the three in each round, and what its processes are to open."""

    contender: Contender
    job: Job


@dataclass
class Gated:
    """What the generations gave."""

    base: Rival
    again: Rival
    head: Rival
    memory: tuple[list[int], list[int], list[int]] = field(default_factory=lambda: ([], [], []))
    """Peak memory of each generation's processes, bytes: BASE, BASE again, HEAD."""
    processes: int = 0
    most: int = 0
    """Generations that the budget carries, going by the second."""

    @property
    def rivals(self) -> tuple[Rival, Rival, Rival]:
        """All three."""
        return self.base, self.again, self.head

    def generations(self, batch_size: int) -> Generations:
        """Return what was timed at a batch size so far."""
        series = MeasurementSeries(batch_size)
        blocks = [r.contender.result.times.blocks.get(series, []) for r in self.rivals]
        return generations_of(blocks[0], blocks[1], blocks[2])


def memory_test(settings: GateSection, gated: Gated) -> SequentialTest:
    """Return the test of peak memory."""
    most = max(FIRST_LOOK, gated.most, len(gated.memory[0]))
    return SequentialTest(settings.max_memory, settings.alpha, settings.beta, most)


def latency_test(settings: GateSection, most: int) -> SequentialTest:
    """Return the test of each batch size; alpha and beta are those of all of them together."""
    count = len(settings.batch_sizes)
    return SequentialTest(
        settings.max_slower, settings.alpha / count, settings.beta / count, max(FIRST_LOOK, most)
    )


def undecided_latency(gated: Gated, settings: GateSection) -> tuple[int, ...]:
    """Return the batch sizes to go on with; none when one is worse: that decides the job."""
    if gated.processes < FIRST_LOOK:
        return settings.batch_sizes
    test, left = latency_test(settings, gated.most), []
    for size in settings.batch_sizes:
        found = gated.generations(size)
        judged = judge_changes(found.changes, found.controls, test)
        if judged.outcome == "worse":
            return ()
        if judged.outcome == "cannot tell":
            left.append(size)
    return tuple(left)


def undecided_memory(gated: Gated, settings: GateSection) -> tuple[int, ...]:
    """Return all batch sizes until the peak memory has an outcome, or where it is not known."""
    judged = check_memory(*gated.memory, memory_test(settings, gated))
    is_known = bool(gated.memory[0])
    return settings.batch_sizes if is_known and judged.outcome == "cannot tell" else ()


def measure_gate(
    gated: Gated,
    settings: GateSection,
    compare: CompareSection,
    listener: ProgressListener,
    clock: Clock = time.monotonic,
    start_worker: StartWorker = WorkerClient,
    undecided_of: Undecided = undecided_latency,
) -> None:
    """Time generations until `undecided_of` names no batch size or the budget is spent.

    What a decided batch size would have taken is the others'. Raises BackendError for a network
    that does not run, or whose timed output is not that of its accuracy pass.
    """
    started = clock()
    last_s = 0.0
    gated.most = settings.processes
    longest = units.long_duration(settings.budget_s)
    head, base = gated.head.contender.network, gated.base.contender.network
    listener.begin(f"{head} against {base}, {longest} at most", ceil(settings.budget_s))
    undecided = settings.batch_sizes
    while undecided and gated.processes < gated.most:
        left_s = settings.budget_s - (clock() - started)
        if gated.processes and last_s > left_s:
            break
        began = clock()
        gated.processes += 1
        listener.advance(int(began - started), _figures(gated, undecided))
        _time_generation(gated, undecided, settings, compare, start_worker)
        last_s = clock() - began
        if gated.processes == FIRST_LOOK - 1:  # the first one took the logits, too
            left_s = settings.budget_s - (clock() - started)
            gated.most = min(settings.processes, gated.processes + int(max(0.0, left_s) / last_s))
        undecided = undecided_of(gated, settings)
    listener.end()


def _figures(gated: Gated, batch_sizes: Sequence[int]) -> str:
    found = gated.generations(batch_sizes[0])
    if not found.changes:
        return ""
    mean = sum(found.changes) / len(found.changes)
    return f"batch {batch_sizes[0]}: {units.change(mean)} %"


def _time_generation(
    gated: Gated,
    batch_sizes: tuple[int, ...],
    settings: GateSection,
    compare: CompareSection,
    start_worker: StartWorker,
) -> None:
    """Give all three new processes, time their rounds and end them.

    They are opened and warmed up in random order, so that no place in it is always HEAD's.
    """
    rivals = gated.rivals
    order = random.Random(f"{compare.seed}/{gated.processes}").sample(rivals, len(rivals))
    try:
        start_rivals(order, start_worker)
        for rival in rivals:
            with failures_of(rival.contender):
                _take_logits(gated, rival)
        require_ok(rivals)
        plan = compare.model_copy(
            update={
                "batch_sizes": batch_sizes,
                "rounds": settings.rounds,
                "processes": 1,
                "repeat": 1,
                "budget_s": settings.budget_s / _LEAST_GENERATIONS,
                "block_s": settings.block_s,
                "settle_s": settings.settle_s,
                "warm_up_s": settings.warm_up_s,
                "boundaries": "host",
            }
        )
        contenders = [rival.contender for rival in order]
        measure_latency(contenders, plan, NullListener(), repeat=gated.processes)
        require_ok(rivals)
        sizes = [rival.contender.require_worker().memory() for rival in rivals]
        if None not in sizes:
            for known, size in zip(gated.memory, sizes, strict=True):
                known.append(size or 0)
    finally:
        for rival in rivals:
            rival.contender.close()


def start_rivals(rivals: Sequence[Rival], start_worker: StartWorker) -> None:
    """Import the runtimes of new processes at the same time, then open one network at a time."""
    with ThreadPoolExecutor(len(rivals)) as pool:
        loaded = [pool.submit(r.contender.load_anew, r.job, start_worker) for r in rivals]
    for one in loaded:
        one.result()
    require_ok(rivals)
    for rival in rivals:
        contender = rival.contender
        with failures_of(contender):
            opened = contender.require_worker().open()
            contender.result.opened = contender.result.opened or opened
    require_ok(rivals)


def _take_logits(gated: Gated, rival: Rival) -> None:
    """Have the first generation give its logits, and all others hold what they time against them.

    BASE once more takes those of BASE.
    """
    worker, result = rival.contender.require_worker(), rival.contender.result
    source = gated.base.contender if rival is gated.again else rival.contender
    if result.logits is None and rival is not gated.again:
        result.logits = worker.evaluate()
    else:
        worker.expect(_logits_of(source))


def _logits_of(contender: Contender) -> Floats:
    if contender.result.logits is None:
        raise BackendError(f"{contender.network}: there are no logits of it")
    return contender.result.logits


def require_ok(rivals: Sequence[Rival]) -> None:
    """Raise BackendError unless all of them run."""
    for rival in rivals:
        contender = rival.contender
        if not contender.is_ok or contender.result.reason:
            raise BackendError(f"{contender.network} does not run: {contender.result.reason}")

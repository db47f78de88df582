"""Throughput and latency under full load: several sessions, or several callers of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from foldbench.bench.analysis.streams import gives_more
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.calling.processes import Processes, runner_of, with_option
from foldbench.bench.measure.calling.turns import Pass, Turn, TurnsTaken
from foldbench.bench.measure.running import Contender, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled, Block, Sharing, StreamBlock, StreamSeries


@dataclass(frozen=True)
class _Load:
    """One contender with so many streams, and the process that they are in."""

    row: Contender
    runner: Contender
    streams: int
    threads: int
    sharing: Sharing

    @property
    def name(self) -> str:
        """What its turn is called."""
        return f"{self.row.label}, {self.streams} {self.sharing} x {self.threads} threads"

    def more(self, streams: int, sharing: Sharing | None = None) -> "_Load":
        """Return the same with another number of streams, in a process of its own."""
        sharing = sharing or self.sharing
        runner = _runner(self.row, streams, sharing)
        return replace(self, runner=runner, streams=streams, sharing=sharing)


def _runner(row: Contender, streams: int, sharing: Sharing) -> Contender:
    """Return what runs so many streams, with what makes their calls independent."""
    spec = row.spec
    if sharing == "streams":
        found = with_option(spec.backend, "openvino", "streams", str(streams))
    elif spec.device == "cuda":
        found = with_option(spec.backend, "torch", "own_stream")
    else:
        found = None
    return runner_of(row, backend=found or spec.backend)


def measure_streams(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Load each contender with more and more streams, in turns, until more give no more."""
    contenders = [c for c in contenders if not c.spec.threads]  # the first has all numbers of them
    counts = sorted({1, *settings.calling.streams})[1:] or [1]
    size = min(settings.batch_sizes)
    tried: dict[str, _Load] = {}
    found, left_s = TurnsTaken(), settings.budget_s
    before = _first_loads(contenders, settings)
    for number, count in enumerate(counts):
        loads = _next_loads(before, count) if count > 1 else []
        if count > 1 and not loads:
            break
        together = _bases(contenders, settings)
        together += [one.more(one.streams) for one in before if one.name not in _names(together)]
        together += loads
        turns = [Turn(load.name, load.runner, _timer(load, size, settings)) for load in together]
        by_runner = {id(load.runner): load for load in together}
        share_s = max(0.0, left_s) / (len(counts) - number)
        taken = Pass(
            f"calls at once: {count}",
            settings.model_copy(update={"budget_s": share_s}),
            listener,
            _starter(by_runner, size, settings, processes),
        ).run(turns)
        found.add(taken)
        left_s -= taken.spent_s
        tried |= {load.name: load for load in together}
        before = [load for load in loads if _gave_more(load, before, found)]
    for contender in contenders:
        mine = (load for load in tried.values() if load.row is contender)
        series = tuple(_to_series(load, found) for load in mine)
        contender.add_called(AsCalled(streams=series))


def _first_loads(contenders: Sequence[Contender], settings: CompareSection) -> list[_Load]:
    return [
        _Load(contender, _runner(contender, 1, "sessions"), 1, threads, "sessions")
        for contender in contenders
        for threads in _thread_counts(contender, settings)
    ]


def _bases(contenders: Sequence[Contender], settings: CompareSection) -> list[_Load]:
    """Return what every load of a contender is held against: its first one."""
    loads = _first_loads(contenders, settings)
    return list({id(load.row): load for load in reversed(loads)}.values())


def _names(loads: Sequence[_Load]) -> set[str]:
    return {load.name for load in loads}


def _next_loads(before: Sequence[_Load], count: int) -> list[_Load]:
    """Return the loads with more streams; at first also one session with several callers."""
    loads = [load.more(count) for load in before]
    if all(load.streams == 1 for load in before):
        loads += [load.more(count, "callers") for load in before]
        loads += [load.more(count, "streams") for load in before if _has_streams(load.row)]
    return loads


def _has_streams(row: Contender) -> bool:
    return with_option(row.spec.backend, "openvino", "streams", "1") is not None


def _thread_counts(contender: Contender, settings: CompareSection) -> list[int]:
    opened = contender.result.opened
    all_of_them = opened.threads if opened else 1
    return list(dict.fromkeys(count or all_of_them for count in settings.thread_counts))


def _starter(
    by_runner: dict[int, _Load], size: int, settings: CompareSection, processes: Processes
) -> Callable[[Contender], None]:
    def start(runner: Contender) -> None:
        load = by_runner[id(runner)]
        processes.bare(runner, load.row)
        with failures_of(runner):
            if runner.is_ok:
                worker = runner.require_worker()
                worker.know(processes.answers(load.row))
                shared = load.sharing != "sessions"
                worker.open_streams(size, load.streams, load.threads, shared)
                worker.time_streams(size, settings.calls, settings.warm_up_s, settings.warm_up_s)

    return start


def _timer(load: _Load, size: int, settings: CompareSection) -> Callable[[], Block]:
    return lambda: load.runner.require_worker().time_streams(
        size, settings.calls, settings.block_s, settings.settle_s
    )


def _to_series(load: _Load, found: TurnsTaken) -> StreamSeries:
    blocks = found.blocks.get(load.name, ())
    return StreamSeries(
        streams=load.streams,
        threads=load.threads,
        sharing=load.sharing,
        blocks=tuple(block for block in blocks if isinstance(block, StreamBlock)),
        reason=found.reasons.get(load.name),
    )


def _gave_more(load: _Load, before: Sequence[_Load], found: TurnsTaken) -> bool:
    """Return whether these streams gave more than the ones before, so that more of them may."""
    fewer = [
        one
        for one in before
        if (one.row, one.threads) == (load.row, load.threads)
        and (one.sharing == load.sharing or one.streams == 1)
    ]
    return bool(fewer) and gives_more(_to_series(load, found), _to_series(fewer[0], found))

"""Throughput and latency under full load: several sessions, or several callers of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from foldbench.bench.analysis.streams import gives_more
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.calling.processes import Processes, runner_of, with_option
from foldbench.bench.measure.calling.turns import Pass, Turn
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
    counts = sorted({1, *settings.calling.streams})
    section = settings.model_copy(update={"budget_s": settings.budget_s / len(counts)})
    size = min(settings.batch_sizes)
    series: dict[str, StreamSeries] = {}
    owner: dict[str, Contender] = {}
    before: list[_Load] = []
    offset = 0
    for count in counts:
        loads = _first_loads(contenders, settings) if count == 1 else _next_loads(before, count)
        kept = [load for load in _bases(contenders, settings) if count > 1]
        kept += [load.more(load.streams) for load in before if load.name not in _names(kept)]
        together = [*kept, *loads]
        turns = [Turn(load.name, load.runner, _timer(load, size, settings)) for load in together]
        if not loads:
            break
        by_runner = {id(load.runner): load for load in together}
        rounds = Pass(
            f"calls at once: {count}",
            section,
            listener,
            _starter(by_runner, size, settings, processes),
        )
        taken = rounds.run(turns)
        for load in together:
            blocks = [replace(b, round=b.round + offset) for b in taken.blocks[load.name]]
            found = tuple(b for b in blocks if isinstance(b, StreamBlock))
            series[load.name] = _joined(series.get(load.name), load, found, taken.reasons)
            owner[load.name] = load.row
        offset += settings.rounds
        before = [load for load in loads if _goes_on(load, before, series)]
    for contender in contenders:
        mine = tuple(one for name, one in series.items() if owner[name] is contender)
        contender.add_called(AsCalled(streams=mine))


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


def _joined(
    earlier: StreamSeries | None,
    load: _Load,
    blocks: tuple[StreamBlock, ...],
    reasons: dict[str, str],
) -> StreamSeries:
    if earlier is not None:
        return replace(earlier, blocks=(*earlier.blocks, *blocks))
    return StreamSeries(
        streams=load.streams,
        threads=load.threads,
        sharing=load.sharing,
        blocks=blocks,
        reason=reasons.get(load.name),
    )


def _goes_on(load: _Load, before: Sequence[_Load], series: dict[str, StreamSeries]) -> bool:
    """Return whether more streams may give more: these gave more than the ones before."""
    if load.streams == 1:
        return series[load.name].reason is None
    fewer = [
        one
        for one in before
        if (one.row, one.threads) == (load.row, load.threads)
        and (one.sharing == load.sharing or one.streams == 1)
    ]
    return bool(fewer) and gives_more(series[load.name], series[fewer[0].name])

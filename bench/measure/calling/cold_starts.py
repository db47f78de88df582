"""Cold starts: fresh processes of each contender in turns, from nothing to the second answer."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BackendError
from foldbench.bench.machine.page_cache import drop_page_cache
from foldbench.bench.measure.calling.processes import Processes, runner_of, with_option
from foldbench.bench.measure.running import Contender, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled, ColdStart, ColdStarts, PageCache, Preparation
from foldbench.bench.workers.protocol import Opened


@dataclass
class _Way:
    """One contender as it is or prepared, and its starts in one state of the page cache."""

    row: Contender
    preparation: Preparation
    backend: str
    starts: list[ColdStart] = field(default_factory=list)
    reason: str | None = None

    @property
    def name(self) -> str:
        """What is started."""
        return f"{self.row.label}{f', {self.preparation}' if self.preparation else ''}"

    def runner(self) -> Contender:
        """Return what is to have a process."""
        return runner_of(self.row, backend=self.backend)


def measure_cold_starts(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Start every contender as often as asked, in turns; note the times in them.

    With the page cache dropped as well, where that is asked for and allowed.
    """
    states: list[PageCache] = ["warm"]
    refused = drop_page_cache() if settings.calling.drop_page_cache else None
    if refused:
        listener.note(f"cold starts: {refused}")
    elif settings.calling.drop_page_cache:
        states.append("dropped")
    found: list[tuple[PageCache, _Way]] = []
    for state in states:
        ways = [way for contender in contenders for way in _ways(contender)]
        _make(ways, state, settings, listener, processes)
        found += [(state, way) for way in ways]
    for contender in contenders:
        starts = tuple(_to_record(s, way) for s, way in found if way.row is contender)
        contender.add_called(AsCalled(cold_starts=starts))


def _ways(contender: Contender) -> Iterator[_Way]:
    """Yield the contender as it is, and with what its runtime keeps for later starts or without."""
    spec = contender.spec
    yield _Way(contender, "", spec.backend)
    saved = with_option(spec.backend, "ort", "saved", without={"openvino", "tuned", "micro"})
    if saved and spec.device == "cpu" and not spec.variant.endswith(".host"):
        yield _Way(contender, "saved graph", saved)
    anew = with_option(spec.backend, "torch_compile", "no_cache")
    if anew:
        yield _Way(contender, "compiled anew", anew)


def _to_record(state: PageCache, way: _Way) -> ColdStarts:
    return ColdStarts(
        page_cache=state,
        preparation=way.preparation,
        starts=tuple(way.starts),
        reason=way.reason,
    )


def _make(
    ways: Sequence[_Way],
    state: PageCache,
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    count = settings.calling.cold_starts
    order = Random(f"{settings.seed}/cold starts/{state}")
    listener.begin(f"cold starts, page cache {state}", count)
    for way in ways:
        if way.preparation == "saved graph":  # the first start saves it
            _start(way, processes, None)
    seen: set[int | None] = set()
    started = time.monotonic()
    for number in range(count):
        if number and time.monotonic() - started >= settings.budget_s:
            listener.note(f"cold starts: {number} of {count} fit the budget: raise --budget")
            break
        for way in order.sample(ways, len(ways)):
            if way.reason is not None:
                continue
            listener.advance(number, way.name)
            if state == "dropped":
                drop_page_cache()
            _start(way, processes, seen)
    listener.end()


def _start(way: _Way, processes: Processes, seen: set[int | None] | None) -> None:
    """Start one process and note its times, unless `seen` is None."""
    runner = way.runner()
    processes.start(runner, way.row)
    with failures_of(runner):
        if runner.is_ok and seen is not None:
            way.starts.append(_read(runner, seen))
    runner.close()
    way.reason = runner.result.reason


def _read(runner: Contender, seen: set[int | None]) -> ColdStart:
    """Return the times of the process that was just started; raise BackendError for an old one."""
    process = getattr(runner.worker, "process_id", None)
    if process is not None and process in seen:
        raise BackendError(f"process {process} was used again: that is no cold start")
    seen.add(process)
    opened = runner.result.opened
    if opened is None:
        raise BackendError("its process has opened nothing")
    return to_cold_start(opened, runner.load_s + runner.open_s)


def to_cold_start(opened: Opened, whole_s: float) -> ColdStart:
    """Return the parts of a start that took `whole_s` until the second answer.

    Raises BackendError where the process had its runtime loaded beforehand.
    """
    if opened.preloaded:
        raise BackendError(
            f"its process had loaded {', '.join(opened.preloaded)} before it was asked to open "
            "anything: that is no cold start"
        )
    if opened.first_run_s is None or opened.second_run_s is None:
        raise BackendError("its process made no call")
    own_s = opened.import_s + opened.open_s + opened.first_run_s + opened.second_run_s
    return ColdStart(
        process_s=max(0.0, whole_s - own_s),
        import_s=opened.import_s,
        open_s=opened.open_s,
        first_call_s=opened.first_run_s,
        second_call_s=opened.second_run_s,
    )

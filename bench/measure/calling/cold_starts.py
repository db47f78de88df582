"""Cold starts: fresh processes of each contender in turns, from nothing to the second answer."""

import time
from collections.abc import Sequence
from random import Random

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BackendError
from foldbench.bench.machine.page_cache import drop_page_cache
from foldbench.bench.measure.calling.processes import Processes, runner_of
from foldbench.bench.measure.running import Contender, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled, ColdStart, ColdStarts, PageCache
from foldbench.bench.workers.protocol import Opened


def measure_cold_starts(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Start every contender as often as asked, in turns; note the times in them.

    With the page cache dropped as well, where that is asked for and allowed.
    """
    found = {id(c): [_starts_of("warm", c, {})] for c in contenders}
    states: list[PageCache] = ["warm"]
    refused = drop_page_cache() if settings.calling.drop_page_cache else None
    if refused:
        listener.note(f"cold starts: {refused}")
    elif settings.calling.drop_page_cache:
        states.append("dropped")
    for number, state in enumerate(states):
        made = _make(contenders, state, settings, listener, processes)
        for contender in contenders:
            starts = _starts_of(state, contender, made)
            found[id(contender)] = [*found[id(contender)][:number], starts]
    for contender in contenders:
        contender.add_called(AsCalled(cold_starts=tuple(found[id(contender)])))


Made = dict[int, tuple[list[ColdStart], str | None]]


def _starts_of(state: PageCache, contender: Contender, made: Made) -> ColdStarts:
    starts, reason = made.get(id(contender), ([], None))
    return ColdStarts(page_cache=state, starts=tuple(starts), reason=reason)


def _make(
    contenders: Sequence[Contender],
    state: PageCache,
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> Made:
    count = settings.calling.cold_starts
    order = Random(f"{settings.seed}/cold starts/{state}")
    made: Made = {id(contender): ([], None) for contender in contenders}
    listener.begin(f"cold starts, page cache {state}", count)
    seen: set[int | None] = set()
    started = time.monotonic()
    for number in range(count):
        if number and time.monotonic() - started >= settings.budget_s:
            listener.note(f"cold starts: {number} of {count} fit the budget: raise --budget")
            break
        for contender in order.sample(list(contenders), len(contenders)):
            starts, reason = made[id(contender)]
            if reason is not None:
                continue
            listener.advance(number, contender.label)
            if state == "dropped":
                drop_page_cache()
            runner = runner_of(contender)
            processes.start(runner, contender)
            with failures_of(runner):
                if runner.is_ok:
                    starts.append(_read(runner, seen))
            runner.close()
            made[id(contender)] = starts, runner.result.reason
    listener.end()
    return made


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

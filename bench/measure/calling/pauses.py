"""Latency after pauses, and by which switch it changes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from foldbench.bench import units
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.calling.processes import Processes, runner_of, with_option
from foldbench.bench.measure.calling.turns import Pass, Turn, TurnsTaken
from foldbench.bench.measure.running import Contender, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import AsCalled, Block, PausedBlock, PauseSeries, Switch
from foldbench.bench.timing.loop import BlockOptions, InPauses

_PAUSED_S = 0.3
"""Pauses of one block together, seconds, at the least one pause and at the most _MOST_CALLS."""
_MOST_CALLS = 25


@dataclass(frozen=True)
class _Way:
    """One contender with one switch, and the process that it runs in."""

    row: Contender
    switch: Switch
    runner: Contender

    def name(self, pause_s: float) -> str:
        """Return what the turn after a pause is called."""
        switch = f", {self.switch}" if self.switch else ""
        return f"{self.row.label}{switch}, after {units.pause(pause_s)}"


def measure_pauses(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Call each contender after each pause, with each switch, in turns; note it in them."""
    pauses_s = settings.calling.pauses_s
    ways = [way for contender in contenders for way in _ways(contender)]
    rows = {id(way.runner): way.row for way in ways}
    size = min(settings.batch_sizes)

    def start(runner: Contender) -> None:
        processes.open(runner, rows[id(runner)])
        with failures_of(runner):
            if runner.is_ok:
                runner.require_worker().warm_up(size, settings.warm_up_s)

    turns = [
        Turn(way.name(pause_s), way.runner, _timer(way, pause_s, size), way.name(pauses_s[0]))
        for way in ways
        for pause_s in pauses_s
    ]
    taken = Pass("latency after pauses", settings, listener, start).run(turns)
    for contender in contenders:
        mine = [way for way in ways if way.row is contender]
        found = [_to_series(way, pause_s, taken) for way in mine for pause_s in pauses_s]
        contender.add_called(AsCalled(pauses=tuple(found)))


def calls_after(pause_s: float) -> int:
    """Return how many calls a block of calls after such pauses has."""
    return max(1, min(_MOST_CALLS, int(_PAUSED_S / pause_s + 1e-9))) if pause_s else _MOST_CALLS


def _timer(way: _Way, pause_s: float, size: int) -> Callable[[], Block]:
    in_pauses: dict[Switch, InPauses] = {
        "kept warm": "untimed calls",
        "cold caches": "empty caches",
    }
    options = BlockOptions(
        calls=calls_after(pause_s),
        block_s=0.0,
        settle_s=0.0,
        pause_s=pause_s,
        in_pauses=in_pauses.get(way.switch, "rest"),
    )
    return lambda: way.runner.require_worker().time(size, options)[0]


def _ways(contender: Contender) -> Iterator[_Way]:
    """Yield the contender as it is, and with each switch that it has."""
    as_it_is = runner_of(contender)
    yield _Way(contender, "", as_it_is)
    yield _Way(contender, "kept warm", as_it_is)
    spec = contender.spec
    if spec.device != "cpu":
        return
    yield _Way(contender, "cold caches", as_it_is)
    threads = contender.result.opened.threads if contender.result.opened else 1
    if threads > 1:
        yield _Way(contender, "one thread", runner_of(contender, role="one_thread"))
    without_spin = with_option(spec.backend, "ort", "no_spin", without={"tuned", "openvino"})
    if without_spin and threads > 1:  # a single thread has nobody to wait for
        yield _Way(contender, "no spin-wait", runner_of(contender, backend=without_spin))


def _to_series(way: _Way, pause_s: float, taken: TurnsTaken) -> PauseSeries:
    name = way.name(pause_s)
    blocks = tuple(block for block in taken.blocks[name] if isinstance(block, PausedBlock))
    return PauseSeries(
        pause_s=pause_s, switch=way.switch, blocks=blocks, reason=taken.reasons.get(name)
    )

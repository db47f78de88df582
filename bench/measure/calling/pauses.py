"""Latency after pauses, and by which switch it changes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from foldbench.bench import units
from foldbench.bench.analysis.pauses import rows_of, slowest
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
_PLAIN_SHARE = 1 / 2
"""Of the budget, for calls with nothing switched; the rest is for finding the cause."""


@dataclass(frozen=True)
class _Way:
    """One contender with one switch, and the process that it runs in."""

    row: Contender
    switch: Switch
    runner: Contender

    def name(self, pause_s: float) -> str:
        """Return what the turn after a pause is called."""
        return _name(self.row, self.switch, pause_s)


def _name(row: Contender, switch: Switch, pause_s: float) -> str:
    return f"{row.label}{f', {switch}' if switch else ''}, after {units.pause(pause_s)}"


def measure_pauses(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    processes: Processes,
) -> None:
    """Call each contender after each pause, in turns; note it in them.

    Then, of each runtime, the one that a pause slows most is called after that pause with each
    switch, in the same rounds as with none.
    """
    pauses_s = settings.calling.pauses_s
    size = min(settings.batch_sizes)

    def take(title: str, called: Sequence[tuple[_Way, float]], budget_s: float) -> TurnsTaken:
        rows = {id(way.runner): way.row for way, _ in called}

        def start(runner: Contender) -> None:
            processes.open(runner, rows[id(runner)])
            with failures_of(runner):
                if runner.is_ok:
                    runner.require_worker().warm_up(size, settings.warm_up_s)

        turns = [
            Turn(
                way.name(pause_s),
                way.runner,
                _timer(way, pause_s, size),
                _name(way.row, "", pause_s if way.switch else pauses_s[0]),
            )
            for way, pause_s in called
        ]
        within = settings.model_copy(update={"budget_s": budget_s})
        return Pass(title, within, listener, start).run(turns)

    ways = [_Way(contender, "", runner_of(contender)) for contender in contenders]
    plain = [(way, pause_s) for way in ways for pause_s in pauses_s]
    taken = take("latency after pauses", plain, _PLAIN_SHARE * settings.budget_s)
    found = [(c, [_to_series(w, p, taken) for w, p in plain if w.row is c]) for c in contenders]
    causes = [
        (way, after_s)
        for row, pause_s in _most_slowed(found)
        for way in _ways(row)
        for after_s in _pauses_of(way, pauses_s[0], pause_s)
    ]
    if causes:
        left_s = settings.budget_s - taken.spent_s
        taken.add(take("latency after pauses, by switch", causes, left_s))
    switched = [(way, pause_s) for way, pause_s in causes if way.switch]
    for contender in contenders:
        mine = [(way, p) for way, p in (*plain, *switched) if way.row is contender]
        series = tuple(_to_series(way, pause_s, taken) for way, pause_s in mine)
        contender.add_called(AsCalled(pauses=series))


def _most_slowed(
    found: Iterable[tuple[Contender, Sequence[PauseSeries]]],
) -> list[tuple[Contender, float]]:
    """Return, of each runtime, the contender that a pause slows most, and that pause."""
    worst: dict[tuple[str, str], tuple[float, Contender, float]] = {}
    for contender, series in found:
        row = slowest(rows_of(contender.label, series))
        if row is None or row.multiple is None:
            continue
        runtime = contender.spec.backend.partition(":")[0], contender.spec.device
        one = row.multiple.point, contender, row.pause_s
        worst[runtime] = max(worst.get(runtime, one), one, key=lambda each: each[0])
    return [(contender, pause_s) for _, contender, pause_s in worst.values()]


def _pauses_of(way: _Way, first_s: float, slow_s: float) -> tuple[float, ...]:
    """Return after which pauses a way is called to find the cause: cold caches need none."""
    return {"": (first_s, slow_s), "cold caches": (first_s,)}.get(way.switch, (slow_s,))


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

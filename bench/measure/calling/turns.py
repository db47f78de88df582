"""Rounds of one section: whoever is timed takes turns, in processes of the section's own."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import ceil
from random import Random

from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BenchError
from foldbench.bench.measure.budget import plan_processes
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Block
from foldbench.bench.timing.schedule import RoundPlan, run_rounds


@dataclass(frozen=True)
class Turn:
    """What is timed once in each round."""

    name: str
    contender: Contender
    """Whose process it is timed in."""
    time: Callable[[], Block]
    """Raises BenchError, which ends this turn alone."""
    reference: str | None = None
    """Name of the turn that it is held against."""


@dataclass
class TurnsTaken:
    """What a section's rounds gave, by the names of the turns."""

    blocks: dict[str, list[Block]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    spent_s: float = 0.0
    """Of the budget."""

    @property
    def last_round(self) -> int:
        """The number of the last round, 0 before the first."""
        return max((b.round for blocks in self.blocks.values() for b in blocks), default=0)

    def add(self, later: "TurnsTaken") -> None:
        """Take in what later rounds gave, in processes of their own."""
        rounds = self.last_round
        processes = max((b.process for blocks in self.blocks.values() for b in blocks), default=0)
        for name, blocks in later.blocks.items():
            self.blocks.setdefault(name, []).extend(
                replace(block, round=rounds + block.round, process=processes + block.process)
                for block in blocks
            )
        self.reasons = later.reasons | self.reasons
        self.spent_s += later.spent_s


@dataclass(frozen=True)
class Pass:
    """How one section's rounds are made."""

    title: str
    settings: CompareSection
    listener: ProgressListener
    open: Callable[[Contender], None]
    """Gives a contender a new process, warmed up."""
    clock: Callable[[], float] = time.monotonic

    def run(self, turns: Sequence[Turn], processes: int | None = None) -> TurnsTaken:
        """Return the blocks of all `turns`, in rounds spread over generations of processes.

        As many as the settings ask for, unless `processes` says otherwise, or as the budget
        carries; the first are not paid from it.
        """
        taken = TurnsTaken({turn.name: [] for turn in turns})
        order = Random(f"{self.settings.seed}/{self.title}")
        asked = min(processes or self.settings.processes, self.settings.rounds)
        count, number = asked, 0
        started = began = self.clock()
        while number < count:
            with ExitStack() as stack:
                alive = self._open_all(turns, taken, stack)
                if not alive:
                    break
                if number == 0:
                    started = self.clock()
                    start_s = started - began
                    count = plan_processes(asked, start_s, self.settings.budget_s)
                left_s = self.settings.budget_s - (self.clock() - started)
                left_s -= (count - number - 1) * start_s
                share_s = max(0.0, left_s) / (count - number)
                self._time(alive, taken, number, count, share_s, order)
            number += 1
        taken.spent_s = self.clock() - started
        return taken

    def _open_all(
        self, turns: Sequence[Turn], taken: TurnsTaken, stack: ExitStack
    ) -> dict[str, Turn]:
        """Start the processes; return the turns that can be taken."""
        for contender in unique(turn.contender for turn in turns):
            if contender.is_ok:
                stack.callback(contender.close)
                self.open(contender)
        for turn in turns:
            if not turn.contender.is_ok:
                reason = turn.contender.result.reason or "it did not run"
                taken.reasons.setdefault(turn.name, reason)
        return {turn.name: turn for turn in turns if turn.name not in taken.reasons}

    def _time(
        self,
        alive: Mapping[str, Turn],
        taken: TurnsTaken,
        process: int,
        count: int,
        budget_s: float,
        order: Random,
    ) -> None:
        rounds = ceil(self.settings.rounds / count)
        last = taken.last_round
        which = f", process {process + 1} of {count}" if count > 1 else ""
        self.listener.begin(f"{self.title}{which}", rounds)

        def time_one(name: str, number: int) -> Block | None:
            self.listener.advance(min(number - 1, rounds), f"round {number}, {name}")
            try:
                block = alive[name].time()
            except BenchError as error:
                taken.reasons[name] = str(error)
                return None
            block = replace(block, round=last + number, process=process + 1)
            taken.blocks[name].append(block)
            return block

        plan = RoundPlan(rounds, budget_s)
        references = {name: turn.reference for name, turn in alive.items()}
        held = {name: ref if ref in alive else None for name, ref in references.items()}
        run_rounds(list(alive), held.get, time_one, plan, order, self.clock)
        self.listener.end()


def unique(contenders: Iterable[Contender]) -> list[Contender]:
    """Return each contender once, in order."""
    return list({id(contender): contender for contender in contenders}.values())

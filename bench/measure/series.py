"""Series of rounds, and what they timed of one contender."""

from dataclasses import dataclass, field
from typing import NamedTuple

from foldbench.bench.records import Block, Boundary, Shortage, StopReason, Timing, Tuning
from foldbench.bench.timing.loop import WarmUp


class MeasurementSeries(NamedTuple):
    """What one series of rounds times."""

    batch_size: int
    boundary: Boundary = "host"

    def __str__(self) -> str:
        """Return it as text, such as ``batch 64, device-resident``."""
        return f"batch {self.batch_size}{', device-resident' * (self.boundary == 'device')}"


class Generation(NamedTuple):
    """The processes that time some of the rounds of a repetition: one of each contender."""

    repeat: int = 1
    process: int = 1


def generation_of(block: Block) -> Generation:
    """Return the generation that timed a block."""
    return Generation(block.repeat, block.process)


@dataclass
class Times:
    """What was timed of one contender, by batch size and boundary."""

    warm_ups: dict[MeasurementSeries, WarmUp] = field(default_factory=dict)
    untimed_calls: dict[MeasurementSeries, int] = field(default_factory=dict)
    blocks: dict[MeasurementSeries, list[Block]] = field(default_factory=dict)
    stopped: dict[MeasurementSeries, StopReason] = field(default_factory=dict)
    shortages: dict[MeasurementSeries, Shortage] = field(default_factory=dict)
    tunings: list[Tuning] = field(default_factory=list)
    ended: set[tuple[MeasurementSeries, Generation]] = field(default_factory=set)
    """Series of rounds that came to their end in a generation."""
    spent_s: dict[int, float] = field(default_factory=dict)
    """Seconds that its blocks took, settling included, by repetition."""

    def begin(self, series: MeasurementSeries, warm_up: WarmUp) -> None:
        """Note a warm-up; the first one of a series holds the first call of all."""
        self.warm_ups.setdefault(series, warm_up)
        self.tunings += [warm_up.tuning] if warm_up.tuning else []
        self.count_untimed(series, warm_up.calls)

    def count_untimed(self, series: MeasurementSeries, calls: int) -> None:
        """Note calls that were made but not timed."""
        self.untimed_calls[series] = self.untimed_calls.get(series, 0) + calls

    def add(self, series: MeasurementSeries, block: Block, settle_calls: int) -> None:
        """Note one block and the untimed calls before it."""
        self.count_untimed(series, settle_calls)
        self.blocks.setdefault(series, []).append(block)
        timed_s, calls = sum(block.samples_s), len(block.samples_s)
        spent_s = timed_s * (1 + settle_calls / max(calls, 1))
        self.spent_s[block.repeat] = self.spent_s.get(block.repeat, 0.0) + spent_s

    def end(self, series: MeasurementSeries, generation: Generation, stopped: StopReason) -> None:
        """Note that a series of rounds ended in a generation, and why."""
        self.stopped[series] = stopped
        self.ended.add((series, generation))

    def drop_unfinished(self, boundary: Boundary) -> None:
        """Forget the blocks of series of rounds within `boundary` that did not end."""
        for series in [s for s in self.blocks if s.boundary == boundary]:
            kept = [b for b in self.blocks[series] if (series, generation_of(b)) in self.ended]
            self.blocks[series] = kept
            if not kept:
                del self.blocks[series]

    def of_repeat(self, series: MeasurementSeries, repeat: int) -> list[Block]:
        """Return the blocks of a series that belong to one repetition."""
        return [block for block in self.blocks.get(series, ()) if block.repeat == repeat]

    def of_generation(self, series: MeasurementSeries, generation: Generation) -> list[Block]:
        """Return the blocks of a series that one generation timed."""
        return [b for b in self.blocks.get(series, ()) if generation_of(b) == generation]

    def last_generation(self) -> Generation:
        """Return the last generation that timed a block, the first of all before any."""
        made = [generation_of(b) for blocks in self.blocks.values() for b in blocks]
        return max([Generation(), *made])

    def last_process(self, repeat: int) -> int:
        """Return the last generation of a repetition that timed a block, 0 before any."""
        blocks = (b for blocks in self.blocks.values() for b in blocks if b.repeat == repeat)
        return max((block.process for block in blocks), default=0)

    def last_round(self, series: MeasurementSeries) -> int:
        """Return the number of the last round of a series, 0 before the first."""
        return max((block.round for block in self.blocks.get(series, ())), default=0)


def to_timing(times: Times, series: MeasurementSeries) -> Timing:
    """Return the record of what one series of rounds timed."""
    blocks = tuple(times.blocks[series])
    warm_up = times.warm_ups[series]
    return Timing(
        batch_size=series.batch_size,
        boundary=series.boundary,
        first_call_s=warm_up.first_call_s,
        warmup_calls=times.untimed_calls[series],
        steady=warm_up.converged,
        blocks=blocks,
        checked_outputs=len(blocks),
        stopped=times.stopped.get(series),
        shortage=times.shortages.get(series),
    )

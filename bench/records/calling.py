"""What was measured of a contender as it is really called, section by section."""

from foldbench.bench.records.base import Record
from foldbench.bench.samples.calling import (
    ColdStarts,
    MemoryUse,
    PauseSeries,
    StageSeries,
    StreamSeries,
    SweepSeries,
)


class AsCalled(Record):
    """What was asked for beside latency back to back; what was not is empty."""

    pauses: tuple[PauseSeries, ...] = ()
    cold_starts: tuple[ColdStarts, ...] = ()
    memory: MemoryUse | None = None
    streams: tuple[StreamSeries, ...] = ()
    sweep: tuple[SweepSeries, ...] = ()
    stages: tuple[StageSeries, ...] = ()

    def with_found(self, other: "AsCalled") -> "AsCalled":
        """Return this with what the other one has found besides."""
        found = {name: part for name, part in vars(other).items() if part}
        return self.model_copy(update=found)

"""Where a network's time goes, operator by operator, as each runtime's own profiler says."""

from typing import Literal

from foldbench.bench.records.base import Record, Status, Variant
from foldbench.bench.samples.timing import Device, OperatorTime


class ContenderProfile(Record):
    """Where the time of one contender goes at one batch size."""

    contender: str
    backend: str
    variant: Variant
    device: Device
    batch_size: int
    status: Status
    reason: str | None = None
    runs: int = 0
    """Profiled runs of the network, after untimed ones."""
    operators: tuple[OperatorTime, ...] = ()

    @property
    def total_s(self) -> float:
        """Seconds that the operators take together in one run."""
        return sum(one.time_s for one in self.operators)


class Profile(Record):
    """Where the time of a run's contenders goes."""

    schema_version: Literal[1] = 1
    name: str
    created: str
    threads: int
    profiles: tuple[ContenderProfile, ...]

"""How many images a second each contender of a run serves."""

from typing import Literal

from foldbench.bench.records.base import Record, Status
from foldbench.bench.records.operators import Profile
from foldbench.bench.samples.load import LoadTest
from foldbench.bench.samples.scenarios import ScenarioResult


class ContenderCapacity(Record):
    """The tests of one contender, in the order in which they were made."""

    contender: str
    status: Status
    reason: str | None = None
    holds_per_s: float | None = None
    """Highest rate that holds; None where none of those that were tried does."""
    fails_per_s: float | None = None
    """Lowest rate above it that does not hold."""
    call_s: float | None = None
    """Median call of one image back to back, before the tests, seconds."""
    tests: tuple[LoadTest, ...] = ()
    loadgen: ScenarioResult | None = None
    """What LoadGen says of the rate that holds; None where it was not asked."""


class Capacity(Record):
    """What a run's contenders serve within a bound of latency."""

    schema_version: Literal[1] = 1
    name: str
    created: str
    within_s: float
    at: float
    """The percentile that has to be within it, as a share."""
    most: int
    """Largest batch."""
    wait_s: float
    """How long an image may wait for others."""
    arrivals: str
    """How arrivals were made."""
    threads: int
    contenders: tuple[ContenderCapacity, ...]


Beside = Profile | Capacity
"""What is stored of a run beside its comparisons; its name is the run's."""

"""The records of what was timed: blocks of calls, and why their rounds ended."""

from typing import Annotated

from pydantic import Field

from foldbench.bench.records.base import Record
from foldbench.bench.samples.timing import Block, Boundary
from foldbench.bench.samples.timing import StopReason as StopReason


class Shortage(Record):
    """Blocks had to be shorter than configured, or there was no time for a speed-up even then."""

    rounds: int
    """Clean rounds that a speed-up takes."""
    needed_s: float
    """What they take with the blocks as shortened, as the warm-up told, seconds."""
    budget_s: float
    """What these rounds might take: their share of compare.budget_s."""
    calls: int
    """Least number of timed calls in a block, as shortened."""
    block_s: float
    """Least duration of a timed block, as shortened, seconds."""


class BetweenComparisons(Record):
    """What the machine adds to a speed-up from one comparison to the next."""

    sd: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Standard deviation of the logarithm of the speed-up, beyond what differs within each."""
    freedom: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Degrees of freedom that `sd` is known with."""
    comparisons: Annotated[int, Field(ge=1)]
    """That it was estimated from, this one included; 1 where it is assumed."""


class Timing(Record):
    """Latency of one contender at one batch size, within one boundary."""

    batch_size: int
    boundary: Boundary = "host"
    first_call_s: float | None
    """The first call at this batch size; None when it was not measured."""
    warmup_calls: int
    blocks: tuple[Block, ...]
    checked_outputs: int = 0
    """Timed outputs that were compared with the ones of the accuracy pass."""
    steady: bool | None = None
    """Whether the times had settled when the first round began."""
    stopped: StopReason | None = None
    """Enough clean rounds, intervals narrow enough (in records of older versions), the budget
    spent, or the comparison interrupted; None where the row failed meanwhile."""
    shortage: Shortage | None = None
    """None where enough rounds fitted the budget with blocks as configured."""
    between_comparisons: BetweenComparisons | None = None
    """Of the speed-up over the reference; None where there is none, and in older records."""

    def samples_s(self) -> tuple[float, ...]:
        """Return the seconds of every timed call, in the order they were made."""
        return tuple(s for block in self.blocks for s in block.samples_s)

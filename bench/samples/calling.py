"""What a network costs as it is really called: after pauses, from a cold process, by several."""

from dataclasses import dataclass
from typing import Literal

from foldbench.bench.samples.timing import Block, Sample

Switch = Literal["", "no spin-wait", "one thread", "kept warm"]
"""What is changed to find the cause: nothing, threads that sleep at once when there is no work,
one thread, or an untimed call every KEEP_WARM_S during the pause."""

KEEP_WARM_S = 0.01


@dataclass(frozen=True, kw_only=True)
class CallCosts(Sample):
    """What the timed calls of a block and the pauses before them cost, summed over its calls.

    CPU time is that of all threads of the process.
    """

    paused_s: float
    """Wall time of the pauses."""
    pause_cpu_s: float
    call_cpu_s: float
    switches: int
    """Times that a thread gave up its CPU during a call, to wait for something."""
    preemptions: int
    """Times that a thread was taken off its CPU during a call."""
    minor_faults: int
    major_faults: int


@dataclass(frozen=True, kw_only=True)
class PausedBlock(Block):
    """Timed calls with a pause before each."""

    costs: CallCosts | None = None
    """None where the system does not count them."""


@dataclass(frozen=True, kw_only=True)
class PauseSeries(Sample):
    """One contender, called after pauses of one length, or back to back where that is 0."""

    pause_s: float
    switch: Switch
    blocks: tuple[PausedBlock, ...]
    reason: str | None = None
    """Why it failed."""

"""The records of what was timed: blocks of calls, and what the machine did meanwhile."""

from typing import Literal

from foldbench.bench.records.base import Record

Boundary = Literal["host", "device"]
"""What a timed call covers. host: a host array in, a host array out, transfers to and from a GPU
included. device: the network alone, with input and output in the memory of the GPU."""
StopReason = Literal["rounds", "narrow", "budget", "interrupted"]

Pair = tuple[float, float]
"""Just before the first timed call of a block, and just after its last."""


class Clocks(Record):
    """How fast the processors were clocked around a block's timed calls; None where unknown."""

    cpu_mhz: Pair | None = None
    """Of the fastest CPU that the process may use."""
    cpu_throttled: int | None = None
    """How often a CPU was slowed down for its heat during the block, summed over CPUs."""
    gpu_mhz: Pair | None = None
    """Of the GPU's multiprocessors."""
    gpu_throttled: tuple[str, ...] | None = None
    """What held the GPU's clock back before or after, as NVML names it, such as ``sw_power_cap``;
    empty for nothing."""
    gpu_celsius: Pair | None = None
    gpu_watts: Pair | None = None
    gpu_foreign_processes: int | None = None
    """Processes of others that held the GPU before or after, the larger number."""


class Block(Record):
    """Consecutive timed calls in one round; shares are of its duration, None where unknown."""

    round: int
    samples_s: tuple[float, ...]
    repeat: int = 1
    """Which whole repetition of the rounds it belongs to."""
    session: int = 1
    """Which start of the comparison timed it: 2 and up after an interruption, in new processes."""
    run_delay_ratio: float | None = None
    """Time that its threads were ready but had no CPU, summed over threads."""
    cpu_ratio: float | None = None
    """CPU time used: the number of busy threads."""
    pressure_ratio: float | None = None
    """Time in which anything on the machine waited for a CPU."""
    steal_ratio: float | None = None
    """Time that a hypervisor gave to other machines, summed over CPUs."""
    clocks: Clocks | None = None


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
    """Enough clean rounds, intervals narrow enough, the budget spent, or the comparison
    interrupted; None where the row failed meanwhile."""
    shortage: Shortage | None = None
    """None where enough rounds fitted the budget with blocks as configured."""

    def samples_s(self) -> tuple[float, ...]:
        """Return the seconds of every timed call, in the order they were made."""
        return tuple(s for block in self.blocks for s in block.samples_s)

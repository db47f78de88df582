"""Blocks of timed calls, what the machine did meanwhile, and what a profiler saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Device = Literal["cpu", "cuda"]
Boundary = Literal["host", "device"]
"""What a timed call covers. host: a host array in, a host array out, transfers to and from a GPU
included. device: the network alone, with input and output in the memory of the GPU."""

StopReason = Literal["rounds", "narrow", "budget", "interrupted"]
"""Why rounds ended."""

DIRTY_RUN_DELAY = 0.05
"""Share of a block that its threads waited for a CPU, from which the block is dirty. On a quiet
machine the median is 0.004 to 0.019, with a busy neighbour 0.8 to 1.4 (measured on two cores)."""
RESOLUTION = 0.03
"""Smallest difference from 1 that is called one: what states of a shared host differ by anyway."""

MIN_PROCESSES = 3
"""Processes of each contender before an interval covers what differs between them: with two,
Student's t would give one six times as wide as with four."""

Pair = tuple[float, float]
"""Just before the first timed call of a block, and just after its last."""


def is_clean(run_delay_ratio: float | None) -> bool:
    """Return whether a block was left alone; where the system does not tell, it is taken to be."""
    return run_delay_ratio is None or run_delay_ratio < DIRTY_RUN_DELAY


class Sample:
    """A dataclass that records hold as it is; read from JSON, it refuses unknown fields."""

    __pydantic_config__ = {"extra": "forbid", "ser_json_inf_nan": "constants"}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class Clocks(Sample):
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


@dataclass(frozen=True, kw_only=True)
class Interference(Sample):
    """What else ran meanwhile, as shares of the duration; None where the system does not tell."""

    run_delay_ratio: float | None = None
    """Time that its threads were ready but had no CPU, summed over threads: above 1 when several
    waited."""
    cpu_ratio: float | None = None
    """CPU time used: the number of busy threads."""
    pressure_ratio: float | None = None
    """Time in which anything on the machine waited for a CPU."""
    steal_ratio: float | None = None
    """Time that a hypervisor gave to other machines, summed over CPUs."""


@dataclass(frozen=True, kw_only=True)
class Block(Interference):
    """Consecutive timed calls in one round, and what else ran meanwhile.

    A worker makes it; its place among the rounds is added by the process that counts them.
    """

    round: int = 0
    samples_s: tuple[float, ...]
    repeat: int = 1
    """Which whole repetition of the rounds it belongs to."""
    process: int = 1
    """Which generation of processes within the repetition timed it; a round has blocks of one."""
    session: int = 1
    """Which start of the comparison timed it: 2 and up after an interruption, in new processes."""
    clocks: Clocks | None = None


def clean_pairs(
    blocks: Sequence[Block], reference: Sequence[Block]
) -> tuple[dict[int, tuple[float, ...]], dict[int, tuple[float, ...]]]:
    """Return the rounds in which both were left alone, of each of the two."""
    candidate = {block.round: block for block in blocks if is_clean(block.run_delay_ratio)}
    baseline = {block.round: block for block in reference if is_clean(block.run_delay_ratio)}
    both = sorted(candidate.keys() & baseline.keys())
    return {r: candidate[r].samples_s for r in both}, {r: baseline[r].samples_s for r in both}


@dataclass(frozen=True, kw_only=True)
class Tactic(Sample):
    """One tactic to run a batch, and how long it took."""

    name: str
    medians_s: tuple[float, ...]
    """Median call of each block, seconds, one block a round, in the order of the rounds."""


@dataclass(frozen=True, kw_only=True)
class Tuning(Sample):
    """What a contender that tunes itself chose for a batch size, before it was timed."""

    batch_size: int
    chosen: str
    """Name of the tactic that is used from then on."""
    ways: tuple[Tactic, ...]
    """All that were tried, the plain one first."""


@dataclass(frozen=True, kw_only=True)
class OperatorTime(Sample):
    """One operator of a network, in one place of it or summed over all places."""

    operator: str
    """Its type as the runtime calls it, such as ``Conv`` or ``aten::mkldnn_convolution``."""
    node: str | None
    """The place in the graph, in torch the module; None where the runtime only knows the type."""
    placed_on: str
    """Execution provider or device that ran it."""
    time_s: float
    """Seconds in one run of the network, averaged over the profiled runs."""
    calls: float
    """How often it ran in one run of the network."""
    fused: tuple[str, ...] = ()
    """Nodes of the file that it stands for, where the runtime says so."""

"""What was measured of this machine before the rounds: how fast it multiplies, what suits it."""

from typing import Literal

from foldbench.bench.records.base import Record


class MatmulRate(Record):
    """How long square matrix products took, through ``torch.mm``."""

    device: Literal["cpu", "cuda"]
    precision: str
    """What the products were computed in, such as ``float32``."""
    threads: int
    """For one product on the CPU."""
    size: int
    """Rows and columns of each matrix."""
    samples_s: tuple[float, ...]
    """Seconds for one product: the mean of each block of consecutive ones."""
    clean: tuple[bool, ...]
    """Of each block, whether its threads were left alone."""


class CopyRate(Record):
    """How long copying within the memory of a device took, through ``torch.Tensor.copy_``."""

    device: Literal["cpu", "cuda"]
    threads: int
    """For one copy on the CPU."""
    size_bytes: int
    """Of what is copied: as many bytes are read, and as many written."""
    samples_s: tuple[float, ...]
    """Seconds for one copy: the mean of each block of consecutive ones."""
    clean: tuple[bool, ...]
    """Of each block, whether its threads were left alone."""


class Traffic(Record):
    """Numbers that the network's convolutions and matrix products read and write, when each of them
    reads its inputs and weights once and writes its result once."""

    numbers_per_call: int
    """Whatever the batch size: weights."""
    numbers_per_image: int


class PeakThroughput(Record):
    """Peak throughput: the network's operations, and how fast this machine can do such."""

    flops_per_image: int
    """Floating-point operations of the network's convolutions and matrix products, a multiply-add
    counted as two; elementwise operations are not counted."""
    matmul_rates: tuple[MatmulRate, ...]
    traffic: Traffic | None = None
    """None in records from before it was counted."""
    copy_rates: tuple[CopyRate, ...] = ()

"""What each module of a network costs, on every backend, and how exactly it is computed."""

from typing import Literal

from foldbench.bench.records.base import Record, Status


class ModuleFacts(Record):
    """One module of a network, or one node of an .onnx file without modules."""

    module: str
    """Its name; empty for the network itself."""
    flops: int
    """Of its convolutions and matrix products for the whole batch, a multiply-add counted as two;
    its own, without those of modules in it."""
    size_bytes: int
    """That its nodes read and write, each input, weight and output once."""
    error: float | None = None
    """The largest difference from float64 of what it gives, divided by the largest value."""


class ModuleTime(Record):
    """The time of one module on one backend."""

    module: str
    time_s: float
    """Seconds in one run of the network, by the runtime's own profiler."""
    fused: tuple[str, ...] = ()
    """Other modules whose work is in it."""
    put_in: float = 0.0
    """Copies, casts and changes of layout that the runtime put in for it, in one run."""
    put_in_s: float = 0.0
    """Their time, which is part of `time_s`."""


class ContenderModules(Record):
    """Where the time of one contender goes, by module."""

    contender: str
    status: Status
    reason: str | None = None
    total_s: float = 0.0
    """Of all operators: of the modules and of what is unattributed."""
    unattributed_s: float = 0.0
    modules: tuple[ModuleTime, ...] = ()


class Explanation(Record):
    """Where the time and the error of a run's contenders go, by module."""

    schema_version: Literal[1] = 1
    name: str
    created: str
    threads: int
    batch_size: int
    by_node: bool
    """Whether the rows are nodes of a file whose modules are not known."""
    modules: tuple[ModuleFacts, ...]
    """In the order in which they are computed."""
    contenders: tuple[ContenderModules, ...]
    error_of: str | None = None
    """The exported file that the errors are of."""
    error_missing: str | None = None
    """Why there are none."""
    flops_per_s: float | None = None
    """Of this machine, in products of large matrices in float32."""
    bytes_per_s: float | None = None
    """Read and written, in copies of large arrays."""

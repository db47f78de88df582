"""The protocol between a comparison and its workers: requests and results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from foldbench.bench.backends import Floats
from foldbench.bench.samples.scenarios import ScenarioResult
from foldbench.bench.samples.timing import Block, Boundary, Device, OperatorTime
from foldbench.bench.timing.loop import BlockOptions, WarmUp
from foldbench.bench.timing.scenarios import ScenarioOptions


@dataclass(frozen=True)
class Job:
    """What a worker is to open and on which images."""

    backend: str
    """With its options, such as ``ort:micro=16``."""
    device: Device
    threads: int
    variant: str
    folder: Path
    """The run directory."""
    path: Path
    """The file to run."""
    images: Path
    """(N, C, H, W) uint8 as .npy: what every contender is given."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel: ``x = (pixels / 255 - mean) / std``."""
    classes: int
    """How many the network tells apart."""
    batch_size: int
    """Of the accuracy pass."""
    first_batch_size: int = 1
    """Of the very first call."""


@dataclass(frozen=True)
class Opened:
    """What the worker really got."""

    device: str
    runtime: str
    threads: int
    precision: str
    """What it computes in, such as ``float32``."""
    import_s: float
    """Seconds to import the runtime."""
    open_s: float
    """Seconds to load the file and build the session."""
    first_run_s: float | None = None
    """Seconds of the very first call of the process; None where none was made."""
    resident: bool = False
    """Whether it runs on a GPU and can keep its input and output there."""
    libraries: dict[str, Any] = field(default_factory=dict)
    """What its process has loaded, see `bench.machine.libraries`."""


@dataclass(frozen=True)
class Failure:
    """Why a request could not be done."""

    reason: str


class WorkerProtocol(Protocol):
    """The requests that a worker answers."""

    def open(self) -> Opened:
        """Open the network; raise BackendError with the reason when that cannot be."""

    def evaluate(self) -> Floats:
        """Return the logits (N, classes) float32 of all images."""

    def expect(self, logits: Floats) -> None:
        """Set the logits (N, classes) of all images that timed outputs must match."""

    def warm_up(self, batch_size: int, least_s: float, boundary: Boundary = "host") -> WarmUp:
        """Make untimed calls at `batch_size` for `least_s` seconds or more."""

    def time(self, batch_size: int, options: BlockOptions) -> tuple[Block, int]:
        """Time one block of calls at `batch_size`; return it and the untimed calls before it."""

    def run_scenario(self, options: ScenarioOptions) -> ScenarioResult:
        """Have LoadGen drive it; raise BackendError when an output is wrong or nothing ends."""

    def memory(self) -> int | None:
        """Return the largest resident set so far, bytes; None where unknown."""

    def profile(self, batch_size: int, runs: int) -> tuple[OperatorTime, ...]:
        """Return each operator's time over `runs` runs of the network at `batch_size`."""

    def close(self) -> None:
        """Free everything."""

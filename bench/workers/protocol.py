"""What a worker is sent to begin with, and what it answers besides samples and logits."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foldbench.bench.samples.timing import Device


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
    python: Path | None = None
    """The interpreter that has the runtime; None for the one that runs here."""
    fixed_batch: int | None = None
    """The only batch size that the network takes; None where it takes any."""


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
    second_run_s: float | None = None
    """Seconds of the call after that one."""
    preloaded: tuple[str, ...] = ()
    """Runtimes that the process had loaded before it was asked to open anything."""
    resident: bool = False
    """Whether it runs on a GPU and can keep its input and output there."""
    libraries: dict[str, Any] = field(default_factory=dict)
    """What its process has loaded, see `bench.machine.libraries`."""


@dataclass(frozen=True)
class Failure:
    """Why a request could not be done."""

    reason: str

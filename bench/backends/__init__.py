"""Backends: one file each, found by name; each opens a network on a device and runs it.

A plug-in module has

- ``FORMAT``: ``"module"`` (it runs the torch module itself) or ``"onnx"``,
- ``OPTIONS``: what else can be asked of it, each name with what it does, as a literal that can be
  read without importing the module; a contender is written ``backend:option+option=value``,
- where other versions of its runtime can be had, ``DISTRIBUTIONS``: what to install, by device,
- where some options or devices do not go together, ``refuse(options, device)``, which returns the
  reason or None: such a contender is a row that is skipped,
- ``open_session(source, *, device, threads, options={}) -> Session``,
- where its runtime has a profiler, ``profile(source, *, device, threads, options, batches, runs)``,
  which returns an ``OperatorTime`` for each operator.

A backend never reads a clock and never decides what is compared. It raises BackendError with the
reason when it cannot give exactly what was asked: a device that is missing or was not really used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

from foldbench.bench.arrays import Floats as Floats
from foldbench.bench.privacy import protect
from foldbench.bench.samples.timing import Device

protect()  # the runtimes are imported after this package

Format = Literal["module", "onnx"]
BackendOptions = Mapping[str, str]
"""Option -> value; one that is only switched on has the value ``""``."""

NO_OPTIONS: BackendOptions = {}

TORCH_PRECISIONS: BackendOptions = {"bf16": "bfloat16", "fp16": "float16", "tf32": "tf32"}
"""What torch computes in with each of these options; float32 without any."""


@dataclass(frozen=True)
class NetworkSource:
    """The network to open."""

    path: Path
    """The .onnx file, or the safetensors file of the checkpoint."""
    build_module: Callable[[], Any]
    """Returns the torch module in eval mode, float32, on the CPU (folded where that is asked)."""


class Session(Protocol):
    """An open network on a device; a context manager that frees what it holds."""

    device: str
    """Where it really runs: ``cpu`` or ``cuda:0``."""
    runtime: str
    """Library, version and the settings that matter to speed."""
    threads: int
    """Threads for one operator, as read back from the runtime."""
    precision: str
    """What it computes in: ``float32``, ``tf32``, ``bfloat16``, ``float16`` or ``int8``."""

    def bind(self, x: Floats) -> None:
        """Take the next input, (N, C, H, W) float32, C-contiguous, and bring it to the device."""

    def step(self) -> None:
        """Run the network once on the bound input; may return before the device is done."""

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""

    def output(self) -> Floats:
        """Return the logits of the last step, (N, classes) float32, in host memory."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Closing:
    """A context manager that frees what it holds in `close`."""

    def close(self) -> None:
        """Free what it holds."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@runtime_checkable
class Resident(Protocol):
    """What a session has besides that can keep input and output in the device's memory.

    Where it runs on a GPU, it is then also timed without transfers.
    """

    def place(self, x: Floats) -> None:
        """Bring `x`, as for bind(), to the device before returning.

        The steps that follow, until the next bind(), read it there and leave their output there;
        output() fetches that, and may be asked for it again.
        """


@runtime_checkable
class Allocating(Protocol):
    """What a session has besides whose runtime tells what its tensors hold in a GPU's memory."""

    def allocated_peak_bytes(self) -> int | None:
        """Return the most that they held since this was last asked; None on the CPU."""


@runtime_checkable
class Shareable(Protocol):
    """What a session has besides whose open network several threads can call at once."""

    def another(self) -> "Session":
        """Return a further session of the same open network, for another thread."""


class Backend(Protocol):
    """What a backend's module offers."""

    FORMAT: Format
    OPTIONS: Mapping[str, str]

    def open_session(
        self,
        source: NetworkSource,
        *,
        device: Device,
        threads: int,
        options: BackendOptions = NO_OPTIONS,
    ) -> Session:
        """Open `source` on `device` with `threads` threads for one operator.

        `options` holds names from `OPTIONS` alone. Raises BackendError when the device is missing
        or was not really used, or when an option cannot be had.
        """


@runtime_checkable
class Tunable(Session, Protocol):
    """A session with several tactics to run a batch, all with the same outputs.

    Which of them is fastest is found before anything is timed, by `bench.timing.tuning`.
    """

    def tactics(self, batch_size: int) -> tuple[str, ...]:
        """Return the names of the tactics, the plain one first."""

    def select_tactic(self, batch_size: int, tactic: str) -> None:
        """Run batches of that size by that tactic from now on."""

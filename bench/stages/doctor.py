"""Inject faults into the measurement, one at a time, and check that a guard fires.

Every fault is made for real, on a small network of its own: nothing of a run is touched. A guard
counts as fired when the error that the fault names comes from it, and not for any other error. One
that does not fire is a defect of foldbench or of this installation.
"""

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from foldbench.bench import units
from foldbench.bench.analysis.clean import DIRTY_RUN_DELAY, is_clean
from foldbench.bench.backends import NetworkSource
from foldbench.bench.errors import BackendError, BenchError, ExportError
from foldbench.bench.machine.interference import measure_between, read_counters
from foldbench.bench.records import Boundary, Parity
from foldbench.bench.records.finding import Finding
from foldbench.bench.samples.timing import Interference
from foldbench.bench.stages import calling_faults
from foldbench.bench.stages.broken_sessions import (
    ConstantSession,
    HastyGpuSession,
    LateSession,
    StuckSession,
)
from foldbench.bench.store.temporary import temporary_folder
from foldbench.bench.timing.loop import BlockOptions, Clock, warm_up
from foldbench.bench.timing.simulation import FakeClock
from foldbench.bench.workers.protocol import Job
from foldbench.bench.workers.server import WorkerServer
from foldbench.bench.workers.starting import StartedProcess, start

SHAPE = (3, 16, 16)
CLASSES = 10
_ACCURACY_CALLS = 4  # 32 images in batches of 8


@dataclass(frozen=True)
class Fault:
    """One way to break the measurement, and the error by which its guard is known."""

    name: str
    make: Callable[["_Fixture"], None]
    """Makes the fault; raises what the guard raises, or NotTestableError."""
    error: type[BenchError]
    guard: str
    """Qualified name of the function that has to raise it, itself or in what it calls."""


class NotTestableError(Exception):
    """This system lacks what a guard goes by."""


def run_checks() -> Iterator[Finding]:
    """Make every fault in turn; yield what came of each."""
    with temporary_folder() as folder:
        fixture = _Fixture(folder)
        for fault in FAULTS:
            yield _examine_one(fault, fixture)


def _examine_one(fault: Fault, fixture: "_Fixture") -> Finding:
    """Return ``fired`` only for the error that the fault names, from the guard that it names."""
    expected = f"{fault.error.__name__} of {fault.guard} was expected"
    try:
        fault.make(fixture)
    except NotTestableError as error:
        return Finding(fault.name, "not_testable", str(error))
    except BenchError as error:
        frames = traceback.walk_tb(error.__traceback__)
        passed = {frame.f_code.co_qualname for frame, _ in frames}
        if type(error) is fault.error and fault.guard in passed:
            return Finding(fault.name, "fired", str(error))
        return Finding(fault.name, "silent", f"{expected}, but something else came first: {error}")
    return Finding(fault.name, "silent", f"{expected}, but nothing was raised")


class _Fixture:
    """A small network with BatchNorm, its exported file, and images."""

    def __init__(self, folder: Path) -> None:
        import onnx
        import torch
        from torch import nn

        from foldbench.exporters.export import ExportOptions, to_onnx

        torch.manual_seed(0)
        self.module = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Mish(),
            nn.Flatten(),
            nn.Linear(8 * SHAPE[1] * SHAPE[2], CLASSES),
        ).eval()
        generator = np.random.default_rng(0)
        pixels = generator.integers(0, 256, (32, *SHAPE)).astype(np.uint8)
        self.pixels_path = folder / "images.npy"
        np.save(self.pixels_path, pixels)
        self.images = pixels.astype(np.float32) / np.float32(127.5) - 1
        self.path = folder / "network.onnx"
        self.options = ExportOptions(fold_bn=True, opset=20, passes=())
        onnx.save(to_onnx(self.module, self.images[:2], self.options), self.path)

    def parity_of(self, module: Any) -> Parity:
        """Return the verdict of the parity gate on a file exported from another module."""
        from foldbench.exporters.export import to_onnx
        from foldbench.exporters.parity import check_parity

        exported = to_onnx(module.eval(), self.images[:2], self.options)
        return check_parity(exported.SerializeToString(), self.module, self.images)

    def source(self) -> NetworkSource:
        """Return the network as a backend is given it."""
        return NetworkSource(path=self.path, build_module=lambda: self.module)

    def job(self) -> Job:
        """Return the network as a worker is given it."""
        return calling_faults.job_of(self.path.parent, self.path, self.pixels_path, CLASSES)

    def evaluate_and_time(
        self, session: Any, clock: Clock = time.perf_counter, boundary: Boundary = "host"
    ) -> None:
        """Take the accuracy of `session` and time a block, as a worker does."""
        job = self.job()
        with WorkerServer(job, clock, session) as server:
            server.evaluate()
            server.time(4, BlockOptions(calls=3, block_s=0, settle_s=0, boundary=boundary))


def _force_cpu_provider(fixture: _Fixture) -> None:
    import onnxruntime

    from foldbench.bench.backends.ort import OrtSession

    session = onnxruntime.InferenceSession(str(fixture.path), providers=["CPUExecutionProvider"])
    OrtSession(session, "cuda")


def _drop_synchronisation(fixture: _Fixture) -> None:
    fixture.evaluate_and_time(LateSession(fixture.module, _ACCURACY_CALLS))


def _stop_the_clock_early(fixture: _Fixture) -> None:
    clock = FakeClock()
    session = HastyGpuSession(lambda size: 1e-3 * size, clock, transfer_s=1e-4)
    fixture.evaluate_and_time(session, clock, "device")


def _leave_in_train_mode(fixture: _Fixture) -> None:
    from copy import deepcopy

    from foldbench.bench.backends import torch

    source = NetworkSource(path=fixture.path, build_module=lambda: deepcopy(fixture.module).train())
    torch.open_session(source, device="cpu", threads=1)


def _swap_channels(fixture: _Fixture) -> None:
    _refuse_wrong_outputs(fixture.parity_of(_with_input(fixture.module, lambda x: x.flip(1))))


def _normalise_wrongly(fixture: _Fixture) -> None:
    changed = _with_input(fixture.module, lambda x: (x - 0.05) / 0.9)
    _refuse_wrong_outputs(fixture.parity_of(changed))


def _refuse_wrong_outputs(parity: Parity) -> None:
    """Raise ExportError when the file ran and its outputs are off."""
    if any(case.error is not None and not case.passed for case in parity.cases):
        raise ExportError(str(parity.reason))


def _bake_batch_size(fixture: _Fixture) -> None:
    import torch

    from foldbench.exporters.parity import check_parity

    program = torch.onnx.export(
        fixture.module,
        (torch.from_numpy(fixture.images[:2]),),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise NotTestableError("this torch exports nothing with a fixed batch size")
    baked = program.model_proto.SerializeToString()
    _refuse_what_does_not_run(check_parity(baked, fixture.module, fixture.images))


def _refuse_what_does_not_run(parity: Parity) -> None:
    """Raise ExportError when the file could not be run at all."""
    if not parity.passed and not parity.cases:
        raise ExportError(str(parity.reason))


def _return_nothing(fixture: _Fixture) -> None:
    fixture.evaluate_and_time(ConstantSession(np.empty((0, CLASSES), np.float32)))


def _return_no_numbers(fixture: _Fixture) -> None:
    fixture.evaluate_and_time(ConstantSession(np.full((8, CLASSES), np.nan, np.float32)))


def _return_the_same_answer(fixture: _Fixture) -> None:
    fixture.evaluate_and_time(StuckSession(fixture.module, _ACCURACY_CALLS))


def _add_busy_neighbour(fixture: _Fixture) -> None:
    """Two busy processes per core: whatever is timed has to wait for a CPU."""
    from foldbench.bench.backends import ort
    from foldbench.bench.machine.environment import usable_cores

    if read_counters().run_delay_s is None:
        raise NotTestableError("this system does not count run_delay: no neighbour can be seen")
    busy: list[StartedProcess] = []
    with ort.open_session(fixture.source(), device="cpu", threads=usable_cores()) as session:
        try:
            busy += (start(_spin) for _ in range(2 * usable_cores()))
            time.sleep(1)
            warm_up(session, [fixture.images[:8]], 0.2, time.perf_counter)
            before, end = read_counters(), time.perf_counter() + 1.0
            while time.perf_counter() < end:
                session.bind(fixture.images[:8])
                session.step()
            seen = measure_between(before, read_counters())
        finally:
            for process in busy:
                process.kill()
                process.close()
    _refuse_disturbed(seen)


def _refuse_disturbed(seen: Interference) -> None:
    """Raise BackendError for a block that is left out of the estimate."""
    if seen.run_delay_ratio is not None and not is_clean(seen.run_delay_ratio):
        raise BackendError(
            f"threads waited for a CPU for {units.percent(seen.run_delay_ratio)} % of the block "
            f"(dirty from {units.percent(DIRTY_RUN_DELAY)} % on): the round is left out and "
            "replaced"
        )


def _spin(connection: Connection) -> None:
    """Compute until killed; the process ends with its parent, too."""
    while not connection.closed:
        pass


def _stall_server(fixture: _Fixture) -> None:
    calling_faults.stall_server()


def _leak(fixture: _Fixture) -> None:
    if not calling_faults.leak():
        raise NotTestableError("this system does not tell a process's memory")


def _lock_streams(fixture: _Fixture) -> None:
    calling_faults.lock_streams()


def _start_from_cache(fixture: _Fixture) -> None:
    calling_faults.start_from_cache(fixture.job())


def _with_input(module: Any, change: Callable[[Any], Any]) -> Any:
    """Return `module` fed with something else than it was trained on."""
    from torch import Tensor, nn

    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(change(x))

    return Changed()


FAULTS = (
    Fault("asked for cuda, the session fell back to the CPU",
          _force_cpu_provider, BackendError, "check_provider"),
    Fault("outputs read without synchronising",
          _drop_synchronisation, BackendError, "WorkerServer.time"),
    Fault("a (simulated) GPU still at work when the clock stops",
          _stop_the_clock_early, BackendError, "check_synchronized"),
    Fault("BatchNorm left in train mode",
          _leave_in_train_mode, BackendError, "TorchSession._check_placement"),
    Fault("colour channels swapped in the exported file",
          _swap_channels, ExportError, "_refuse_wrong_outputs"),
    Fault("another normalisation in the exported file",
          _normalise_wrongly, ExportError, "_refuse_wrong_outputs"),
    Fault("the traced batch size baked into the exported file",
          _bake_batch_size, ExportError, "_refuse_what_does_not_run"),
    Fault("empty outputs",
          _return_nothing, BackendError, "WorkerServer.evaluate"),
    Fault("outputs that are no numbers",
          _return_no_numbers, BackendError, "WorkerServer.evaluate"),
    Fault("the same output for every input",
          _return_the_same_answer, BackendError, "WorkerServer.time"),
    Fault("a busy neighbour while a block is timed",
          _add_busy_neighbour, BackendError, "_refuse_disturbed"),
    Fault("a server that stalls while images go on arriving",
          _stall_server, BackendError, "_refuse_late"),
    Fault("calls that keep memory",
          _leak, BackendError, "_refuse_growing"),
    Fault("sessions that look concurrent and wait for one lock",
          _lock_streams, BackendError, "refuse_serial"),
    Fault("a cold start in a process that had its runtime loaded",
          _start_from_cache, BackendError, "to_cold_start"),
)  # fmt: skip

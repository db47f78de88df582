"""Break the measurement on purpose, one way at a time, and see that a guard says so.

Every fault is made for real, on a small network of its own: nothing of a run is touched. A guard
that does not fire is a defect of foldbench or of this installation.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.backends import Floats, Source
from bench.backends.fake import FakeClock, FakeGpuSession
from bench.errors import BenchError
from bench.interference import measure_between, read_counters
from bench.records import Preprocessing
from bench.servant import Servant
from bench.statistics import DIRTY_RUN_DELAY, is_clean
from bench.timing import BlockOptions, Clock, warm_up

SHAPE = (3, 16, 16)
CLASSES = 10


@dataclass(frozen=True)
class Finding:
    """One fault and what came of it."""

    fault: str
    fired: bool
    said: str
    """What the guard said, or why the fault could not be made here."""


def examine() -> Iterator[Finding]:
    """Make every fault in turn; yield what the guard said of each."""
    with tempfile.TemporaryDirectory(prefix="foldbench-") as folder:
        patient = _Patient(Path(folder))
        for fault, make in FAULTS.items():
            try:
                said = make(patient)
            except BenchError as error:
                yield Finding(fault, True, str(error))
            else:
                yield Finding(fault, said is not None, said or "nothing was said")


class _Patient:
    """A small network with BatchNorm, its exported file, and images."""

    def __init__(self, folder: Path) -> None:
        import onnx
        import torch
        from torch import nn

        from exporters.export import ExportOptions, to_onnx

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
        self.preprocessing = Preprocessing(input_shape=SHAPE, mean=(0.5,) * 3, std=(0.5,) * 3)
        self.pixels_path = folder / "images.npy"
        np.save(self.pixels_path, pixels)
        self.images = pixels.astype(np.float32) / np.float32(127.5) - 1
        self.path = folder / "network.onnx"
        self.options = ExportOptions(fold_bn=True, opset=20, passes=())
        onnx.save(to_onnx(self.module, self.images[:2], self.options), self.path)

    def parity_of(self, module: Any) -> str | None:
        """Return what the parity gate says of a file exported from another module."""
        from exporters.export import to_onnx
        from exporters.parity import check_parity

        exported = to_onnx(module.eval(), self.images[:2], self.options)
        parity = check_parity(exported.SerializeToString(), self.module, self.images)
        return None if parity.passed else parity.reason

    def source(self) -> Source:
        """Return the network as a backend is given it."""
        return Source(path=self.path, build_module=lambda: self.module)

    def servant(self, session: Any, stack: ExitStack, clock: Clock = time.perf_counter) -> Servant:
        """Return a worker's inside that runs `session`."""
        checkpoint = SimpleNamespace(classes=tuple("0123456789"), preprocessing=self.preprocessing)
        job: Any = SimpleNamespace(images=self.pixels_path, checkpoint=checkpoint, batch_size=8)
        return Servant(job, stack, clock, session)


def _force_cpu_provider(patient: _Patient) -> None:
    import onnxruntime

    from bench.backends.ort import OrtSession

    session = onnxruntime.InferenceSession(str(patient.path), providers=["CPUExecutionProvider"])
    OrtSession(session, "cuda")


def _drop_synchronisation(patient: _Patient) -> None:
    with ExitStack() as stack:
        servant = patient.servant(_Late(patient), stack)
        servant.evaluate()
        servant.time(4, BlockOptions(calls=3, block_s=0, settle_s=0))


def _stop_the_clock_early(patient: _Patient) -> None:
    clock = FakeClock()
    session = _Hasty(lambda size: 1e-3 * size, clock, transfer_s=1e-4)
    with ExitStack() as stack:
        servant = patient.servant(session, stack, clock)
        servant.evaluate()
        servant.time(4, BlockOptions(calls=3, block_s=0, settle_s=0, boundary="device"))


def _leave_in_train_mode(patient: _Patient) -> None:
    from copy import deepcopy

    from bench.backends import torch

    source = Source(path=patient.path, build_module=lambda: deepcopy(patient.module).train())
    torch.open(source, device="cpu", threads=1)


def _swap_channels(patient: _Patient) -> str | None:
    return patient.parity_of(_with_input(patient.module, lambda x: x.flip(1)))


def _normalise_wrongly(patient: _Patient) -> str | None:
    return patient.parity_of(_with_input(patient.module, lambda x: (x - 0.05) / 0.9))


def _bake_batch_size(patient: _Patient) -> str | None:
    import torch

    from exporters.parity import check_parity

    program = torch.onnx.export(
        patient.module,
        (torch.from_numpy(patient.images[:2]),),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        return None
    exported = program.model_proto.SerializeToString()
    return check_parity(exported, patient.module, patient.images).reason


def _return_nothing(patient: _Patient) -> None:
    with ExitStack() as stack:
        patient.servant(_Constant(np.empty((0, CLASSES), np.float32)), stack).evaluate()


def _return_no_numbers(patient: _Patient) -> None:
    with ExitStack() as stack:
        patient.servant(_Constant(np.full((8, CLASSES), np.nan, np.float32)), stack).evaluate()


def _return_the_same_answer(patient: _Patient) -> None:
    with ExitStack() as stack:
        servant = patient.servant(_Constant(np.ones((4, CLASSES), np.float32)), stack)
        servant.expect(np.random.default_rng(0).standard_normal((32, CLASSES), np.float32))
        servant.time(4, BlockOptions(calls=3, block_s=0, settle_s=0))


def _add_busy_neighbour(patient: _Patient) -> str | None:
    """Two busy processes per core: whatever is timed has to wait for a CPU."""
    from bench.backends import ort
    from bench.environment import usable_cores

    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=_spin, daemon=True) for _ in range(2 * usable_cores())]
    with ort.open(patient.source(), device="cpu", threads=usable_cores()) as session:
        for process in busy:
            process.start()
        try:
            time.sleep(1)
            warm_up(session, [patient.images[:8]], 0.2, time.perf_counter)
            before, end = read_counters(), time.perf_counter() + 1.0
            while time.perf_counter() < end:
                session.bind(patient.images[:8])
                session.step()
            seen = measure_between(before, read_counters())
        finally:
            for process in busy:
                process.kill()
                process.join()
    if seen.run_delay_ratio is None:
        return "this system does not count run_delay: a busy neighbour cannot be seen here"
    if is_clean(seen.run_delay_ratio):
        return None
    return (
        f"threads waited for a CPU for {seen.run_delay_ratio:.0%} of the block "
        f"(dirty from {DIRTY_RUN_DELAY:.0%} on): the round is left out and replaced"
    )


def _spin() -> None:
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        pass


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


class _Constant:
    """A session that answers the same whatever it is asked."""

    device, runtime, threads, precision = "cpu", "constant", 1, "float32"

    def __init__(self, answer: Floats) -> None:
        self._answer = answer

    def bind(self, x: Floats) -> None:
        """Ignore it."""

    def step(self) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def output(self) -> Floats:
        """Return the answer."""
        return self._answer


class _Late(_Constant):
    """A session whose answers are ready a step too late when they are asked for in a hurry."""

    def __init__(self, patient: _Patient) -> None:
        super().__init__(np.zeros((8, CLASSES), np.float32))
        self._module = patient.module
        self._pending: Floats | None = None
        self._calls = 0

    def bind(self, x: Floats) -> None:
        """Take the next input; what was asked before becomes ready only now."""
        import torch

        ready = self._pending
        with torch.inference_mode():
            self._pending = self._module(torch.from_numpy(x)).numpy()
        self._calls += 1
        waited = self._calls <= 4  # the accuracy pass of 32 images in batches of 8 did wait
        self._answer = self._pending if waited or ready is None else ready


class _Hasty(FakeGpuSession):
    """A GPU whose synchronisation was forgotten: its answers are right, its times are not."""

    def synchronize(self) -> None:
        """Return at once."""


FAULTS: dict[str, Callable[[_Patient], str | None]] = {
    "asked for cuda, the session fell back to the CPU": _force_cpu_provider,
    "outputs read without synchronising": _drop_synchronisation,
    "a (simulated) GPU still at work when the clock stops": _stop_the_clock_early,
    "BatchNorm left in train mode": _leave_in_train_mode,
    "colour channels swapped in the exported file": _swap_channels,
    "another normalisation in the exported file": _normalise_wrongly,
    "the traced batch size baked into the exported file": _bake_batch_size,
    "empty outputs": _return_nothing,
    "outputs that are no numbers": _return_no_numbers,
    "the same output for every input": _return_the_same_answer,
    "a busy neighbour while a block is timed": _add_busy_neighbour,
}
"""What is broken, and how: it raises, or returns what the guard said (None for nothing)."""

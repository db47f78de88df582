"""One process for one contender: it opens the network, answers, and is timed, alone.

Idle thread pools of one runtime slow another one down, and a crash takes the process along, so no
two contenders share one. The parent lets one worker at a time do something.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.backends import Floats, Session, Source
from bench.errors import BackendError, BenchError, one_line
from bench.preprocessing import preprocess
from bench.records import Checkpoint, Device, Variant
from bench.registry import BACKENDS
from bench.timing import BlockOptions, Clock, call, time_block, time_call

_BATCH_MEMORY_BYTES = 256 * 2**20
_DISTINCT_BATCHES = 32
_TIMED_OUTPUT_TOLERANCE = 1e-3
"""Allowed difference of a timed output from the accuracy pass, relative to the largest logit: wide
enough for another batch size's kernels, far too narrow for a wrong answer."""


@dataclass(frozen=True)
class Job:
    """What a worker is to open and on which images."""

    backend: str
    device: Device
    threads: int
    variant: Variant
    folder: Path
    """The run directory."""
    path: Path
    """The file to run."""
    checkpoint: Checkpoint
    images: Path
    """(N, C, H, W) uint8 as .npy: what every contender is given."""
    batch_size: int
    """Of the accuracy pass."""


@dataclass(frozen=True)
class Opened:
    """What the worker really got."""

    device: str
    runtime: str
    threads: int
    open_s: float
    """Seconds to load the file and build the session."""


@dataclass(frozen=True)
class TimedBlock:
    """One block of timed calls, seconds; `first_call_s` only with the first block of a size."""

    first_call_s: float | None
    settle_calls: int
    samples_s: tuple[float, ...]


@dataclass(frozen=True)
class _Failure:
    reason: str


class Workman(Protocol):
    """What the comparison asks of whoever runs a contender."""

    def open(self) -> Opened:
        """Open the network; raise BackendError with the reason when that cannot be."""

    def evaluate(self) -> Floats:
        """Return the logits (N, classes) float32 of all images."""

    def time(self, batch_size: int, options: BlockOptions) -> TimedBlock:
        """Time one block of calls at `batch_size`."""

    def close(self) -> None:
        """Free everything."""


class Worker:
    """The parent's side: a live process that answers one request at a time."""

    def __init__(self, job: Job) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def process_id(self) -> int | None:
        """The process that does the work."""
        return self._process.pid

    def open(self) -> Opened:
        """Have it open the network; raise BackendError with the reason when it cannot."""
        return self._ask("open")

    def evaluate(self) -> Floats:
        """Return its logits (N, classes) float32 for all images."""
        return self._ask("evaluate")

    def time(self, batch_size: int, options: BlockOptions) -> TimedBlock:
        """Have it time one block of calls at `batch_size`."""
        return self._ask("time", batch_size, options)

    def close(self) -> None:
        """End the process, gently if it still listens."""
        self._connection.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, request: str, *arguments: Any) -> Any:
        try:
            self._connection.send((request, *arguments))
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise BackendError(self._cause_of_death()) from None
        if isinstance(answer, _Failure):
            raise BackendError(answer.reason)
        return answer

    def _cause_of_death(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ": out of memory?" if -code == signal.SIGKILL else ""
            return f"its process was ended by {name}{hint}"
        return f"its process ended by itself (exit code {code})"


def serve(connection: Connection, job: Job) -> None:
    """Answer requests until the parent hangs up; runs in the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    os.dup2(2, 1)  # whatever a runtime prints must not mix with the parent's output
    with ExitStack() as stack:
        requests = Servant(job, stack)
        while True:
            try:
                name, *arguments = connection.recv()
            except EOFError:
                return
            connection.send(_answer(getattr(requests, name), arguments))


def _answer(request: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return request(*arguments)
    except BenchError as error:
        return _Failure(str(error))
    except MemoryError:
        return _Failure("out of memory")
    except Exception as error:  # a runtime may raise anything; it is this row's reason
        return _Failure(f"{type(error).__name__}: {one_line(error)}")


class Servant:
    """The worker's side: it holds the open network and does what the parent asks.

    `stack` closes the network; `clock` returns seconds.
    """

    def __init__(self, job: Job, stack: ExitStack, clock: Clock = time.perf_counter) -> None:
        self._job = job
        self._stack = stack
        self._clock = clock
        self._images = np.load(job.images, mmap_mode="r", allow_pickle=False)
        self._session: Session | None = None
        self._logits: Floats | None = None
        self._batches: dict[int, list[tuple[npt.NDArray[np.int64], Floats]]] = {}

    def open(self) -> Opened:
        """Open the network; raise BackendError when it cannot be had as asked."""
        backend = BACKENDS.load(self._job.backend)
        source = Source(path=self._job.path, build_module=lambda: build_module(self._job))
        started = self._clock()
        session = backend.open(source, device=self._job.device, threads=self._job.threads)
        open_s = self._clock() - started
        self._session = self._stack.enter_context(session)
        return Opened(session.device, session.runtime, session.threads, open_s)

    def evaluate(self) -> Floats:
        """Return the logits (N, classes) float32 of all images, checked for shape and NaN."""
        size = self._job.batch_size
        parts = [
            call(self._opened(), self._inputs(np.arange(start, min(start + size, self._count))))
            for start in range(0, self._count, size)
        ]
        self._logits = np.concatenate(parts)
        classes = len(self._job.checkpoint.classes)
        if self._logits.shape != (self._count, classes) or not np.isfinite(self._logits).all():
            raise BackendError(
                f"gave outputs of shape {self._logits.shape} for {self._count} images of {classes} "
                "classes, or some that are not finite"
            )
        return self._logits

    def time(self, batch_size: int, options: BlockOptions) -> TimedBlock:
        """Time one block; raise BackendError when its last output is not the right one."""
        session, first_call_s = self._opened(), None
        if batch_size not in self._batches:
            self._batches[batch_size] = self._make_batches(batch_size)
            first_call_s, _ = time_call(session, self._batches[batch_size][0][1], self._clock)
        batches = self._batches[batch_size]
        settled, samples, (index, output) = time_block(
            session, [x for _, x in batches], options, self._clock
        )
        self._check(batches[index][0], output)
        return TimedBlock(first_call_s, settled, tuple(samples))

    def _check(self, indices: npt.NDArray[np.int64], output: Floats) -> None:
        """Raise BackendError when a timed output is not what the accuracy pass gave."""
        if self._logits is None:
            raise BackendError("timed before its accuracy was taken")
        expected = self._logits[indices]
        allowed = _TIMED_OUTPUT_TOLERANCE * float(np.abs(expected).max())
        if output.shape != expected.shape or not np.abs(output - expected).max() <= allowed:
            raise BackendError(
                f"a timed output at batch size {len(indices)} differs from the one of the accuracy "
                "pass on the same images: its speed means nothing"
            )

    def _make_batches(self, size: int) -> list[tuple[npt.NDArray[np.int64], Floats]]:
        """Return distinct batches of real images, with the images' indices."""
        image_bytes = 4 * int(np.prod(self._images.shape[1:]))
        count = max(2, min(_DISTINCT_BATCHES, _BATCH_MEMORY_BYTES // (size * image_bytes)))
        indices = [np.arange(n * size, (n + 1) * size) % self._count for n in range(count)]
        return [(chosen, self._inputs(chosen)) for chosen in indices]

    def _inputs(self, indices: npt.NDArray[np.int64]) -> Floats:
        return preprocess(self._images[indices], self._job.checkpoint.preprocessing)

    def _opened(self) -> Session:
        if self._session is None:
            raise BackendError("the network is not open")
        return self._session

    @property
    def _count(self) -> int:
        return len(self._images)


def build_module(job: Job) -> Any:
    """Return the trained torch module of the job, in eval mode, folded where it asks for that."""
    from exporters.fold import fold_batchnorm
    from models._checkpoint import load_checkpoint

    module = load_checkpoint(job.checkpoint, job.folder)
    if job.variant == "unfolded":
        return module
    import torch

    example = torch.zeros(2, *job.checkpoint.preprocessing.input_shape)
    return fold_batchnorm(module, example)[0]

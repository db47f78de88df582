"""One process for one contender, from its own side: it opens the network, answers and is timed."""

import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from foldbench.bench.backends import Floats, NetworkSource, Resident, Session, Tunable
from foldbench.bench.config.backend_spec import load_backend, parse_spec
from foldbench.bench.errors import BackendError, BenchError, one_line
from foldbench.bench.images.blocks import in_file, release
from foldbench.bench.images.normalization import normalize
from foldbench.bench.machine.clocks import ReadClocks, open_reader, read_nothing
from foldbench.bench.machine.libraries import describe_libraries
from foldbench.bench.samples.scenarios import ScenarioResult
from foldbench.bench.samples.timing import Block, Boundary, OperatorTime
from foldbench.bench.timing.loop import (
    BlockOptions,
    Clock,
    WarmUp,
    call,
    check_synchronized,
    time_block,
    time_call,
    warm_up,
)
from foldbench.bench.timing.memory import read_status_bytes
from foldbench.bench.timing.scenarios import ScenarioOptions, to_result
from foldbench.bench.timing.tuning import autotune
from foldbench.bench.workers.calling import CallingRequests
from foldbench.bench.workers.protocol import Failure, Job, Opened

_RUNTIMES = {"torch", "onnxruntime", "openvino"}
_BATCH_MEMORY_BYTES = 256 * 2**20
_DISTINCT_BATCHES = 32
_TIMED_OUTPUT_TOLERANCE = {"float32": 1e-3, "tf32": 1e-2, "float16": 1e-2}
_COARSE_TOLERANCE = 5e-2  # bfloat16 keeps 8 bits of a number, int8 has 8 in all
"""Allowed difference of a timed output from the accuracy pass, relative to the largest logit: wide
enough for another batch size's kernels, far too narrow for a wrong answer."""


def serve(connection: Connection, job: Job) -> None:
    """Answer requests until the parent hangs up; runs in the worker process."""
    with WorkerServer(job) as requests:
        while True:
            try:
                name, *arguments = connection.recv()
            except (EOFError, OSError):
                return  # the parent has gone
            answer = _answer(getattr(requests, name), arguments)
            if name == "open":  # what a runtime consists of is never garbage: look past it
                gc.collect()
                gc.freeze()
            try:
                connection.send(answer)
            except OSError:
                return  # the parent has gone


def _answer(request: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return request(*arguments)
    except BenchError as error:
        return Failure(str(error))
    except MemoryError:
        return Failure("out of memory")
    except Exception as error:  # a runtime may raise anything; it is this row's reason
        return Failure(f"{type(error).__name__}: {one_line(error)}")


class WorkerServer(CallingRequests):
    """The server: it holds the open network and answers the parent's requests.

    `clock` returns seconds; `session` is one that is open already. A `WorkerClient` has the same
    methods, and raises BackendError for whatever a request raises here.
    """

    def __init__(
        self, job: Job, clock: Clock = time.perf_counter, session: Session | None = None
    ) -> None:
        self._job = job
        self._stack = ExitStack()
        self._clock = clock
        self._images = np.load(job.images, mmap_mode="r", allow_pickle=False)
        self._session = session
        self._loaded_s: tuple[float, float] | None = None
        self._module: Any = None
        self._preloaded: tuple[str, ...] = ()
        self._read_clocks: ReadClocks = read_nothing
        self._logits: Floats | None = None
        self._batches: dict[int, list[tuple[npt.NDArray[np.int64], Floats]]] = {}

    def load(self) -> tuple[float, float]:
        """Import the runtime and build the module that it runs, if any; `open` does that otherwise.

        Return the seconds of each. Several workers may do so at the same time: no kernel is chosen
        by its time here, as it may be in `open`.
        """
        if self._loaded_s is None:
            self._preloaded = tuple(sorted(_RUNTIMES & set(sys.modules)))
            moments = [self._clock()]
            backend = load_backend(parse_spec(self._job.backend))
            moments.append(self._clock())
            if backend.FORMAT == "module":
                self._module = self._build_module()
            moments.append(self._clock())
            self._loaded_s = moments[1] - moments[0], moments[2] - moments[1]
        return self._loaded_s

    def open(self) -> Opened:
        """Open the network and run it once; raise BackendError when it cannot be had as asked.

        What is open already is closed first.
        """
        self._stack.close()
        import_s, build_s = self.load()
        started = self._clock()
        session = self._open_session(build_module=self._take_module)
        opened = self._clock()
        self._hold(session)
        first = self._job.fixed_batch or self._job.first_batch_size
        images = self._one_batch(first)
        first_run_s, _ = time_call(session, images, self._clock)
        second_run_s, _ = time_call(session, images, self._clock)
        self._read_clocks = open_reader(session.device)
        return Opened(
            session.device,
            session.runtime,
            session.threads,
            session.precision,
            import_s,
            build_s + opened - started,
            first_run_s,
            second_run_s=second_run_s,
            preloaded=self._preloaded,
            resident=session.device.startswith("cuda") and isinstance(session, Resident),
            libraries=describe_libraries(),
        )

    def evaluate(self) -> Floats:
        """Return the logits (N, classes) float32 of all images, checked for shape and NaN."""
        size = self._job.fixed_batch or self._job.batch_size
        parts = []  # copies: some networks write each answer into the same place
        for start in range(0, self._count, size):
            parts.append(call(self._opened(), self._inputs(self._rows(start, size))).copy())
            release(self._images)
        logits: Floats = np.concatenate(parts)[: self._count]
        classes = self._job.classes
        if logits.shape != (self._count, classes) or not np.isfinite(logits).all():
            raise BackendError(
                f"gave outputs of shape {logits.shape} for {self._count} images of {classes} "
                "classes, or some that are not finite"
            )
        self.know(logits)
        return logits

    def _rows(self, start: int, size: int) -> npt.NDArray[np.int64]:
        """Return the images of one batch; the last is filled up where the network needs that."""
        rows = np.arange(start, min(start + size, self._count))
        return rows if self._job.fixed_batch is None else np.resize(rows, size)

    def batch_size(self) -> int:
        """Return the number of images in a batch of the accuracy pass."""
        return self._job.fixed_batch or self._job.batch_size

    def evaluate_as(
        self,
        indices: npt.NDArray[np.int64],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        swapped: bool,
    ) -> Floats:
        """Return the logits of some images whose input is made in another way.

        `mean` and `std` are those of the pixels as shares of 255; `swapped` reverses the channels.
        Batches have the size that `evaluate` has, so that nothing new is allocated.
        """
        size = self._job.fixed_batch or min(self._job.batch_size, self._count)
        parts = []
        for start in range(0, len(indices), size):
            rows = np.resize(indices[start : start + size], size)
            images = normalize(self._images[rows], mean, std)
            inputs = np.ascontiguousarray(images[:, ::-1]) if swapped else images
            parts.append(call(self._opened(), inputs).copy())
        return np.concatenate(parts)[: len(indices)]

    def time(self, batch_size: int, options: BlockOptions) -> tuple[Block, int]:
        """Time one block; return it and the untimed calls before it.

        Raises BackendError when its last output is not the right one.

        Also where the boundary is the device and synchronising it does not wait for it.
        """
        batches = self._batches_of(batch_size)
        inputs = [x for _, x in batches]
        timed = time_block(self._opened(), inputs, options, self._clock, self._read_clocks)
        self._check(batches[timed.batch][0], timed.output)
        if options.boundary == "device":
            check_synchronized(self._opened(), inputs[timed.batch], self._clock)
        return timed.block, timed.settle_calls

    def expect(self, logits: Floats) -> None:
        """Take `logits` (N, classes) as what timed outputs have to be.

        One batch is run and checked, so that the process has allocated what one that evaluated
        has: an allocator remembers, and the speed of later calls depends on it.
        """
        self.know(logits)
        first = self._rows(0, self._job.fixed_batch or self._job.batch_size)
        self._check(first, call(self._opened(), self._inputs(first)))

    def know(self, logits: Floats) -> None:
        """Take `logits` (N, classes) as the right answers, without a call."""
        self._logits = in_file(logits)

    def warm_up(self, batch_size: int, least_s: float, boundary: Boundary = "host") -> WarmUp:
        """Make untimed calls until the times settle, from the first call at this batch size on.

        After them, a session with several tactics selects the fastest.
        """
        inputs = [x for _, x in self._batches_of(batch_size)]
        session = self._opened()
        warm = warm_up(session, inputs, least_s, self._clock, boundary)
        if not isinstance(session, Tunable):
            return warm
        tuning, calls = autotune(session, inputs, self._clock)
        return replace(warm, calls=warm.calls + calls, tuning=tuning)

    def run_scenario(self, options: ScenarioOptions) -> ScenarioResult:
        """Have LoadGen drive the network; raise BackendError when a checked output is wrong."""
        from foldbench.bench.timing.loadgen import Images, drive

        call_s = 0.0
        timed_s = 0.0 if options.scenario == "server" else options.warm_up_s
        for size in options.batch_sizes:  # each is warmed up; the last one's times count
            block = BlockOptions(calls=3, block_s=timed_s, settle_s=options.warm_up_s)
            session = self._opened()
            if isinstance(session, Tunable):
                autotune(session, [x for _, x in self._batches_of(size)], self._clock)
            call_s = min(self.time(size, block)[0].samples_s)
        self._batches = {}  # the images that LoadGen asks for take their place
        image_bytes = 4 * int(np.prod(self._images.shape[1:]))
        at_once = max(1, min(self._count, _BATCH_MEMORY_BYTES // image_bytes))
        images = Images(self._count, at_once, self._inputs)
        driven, outputs = drive(self._opened(), images, options, call_s, self._job.images.parent)
        for indices, output in outputs:
            self._check(indices, output)
        return to_result(options, driven, len(outputs))

    def _hold(self, session: Session) -> Session:
        self._session = self._stack.enter_context(session)
        return self._session

    def memory(self) -> int | None:
        """Return the largest resident set of this process so far, bytes; None where unknown."""
        return read_status_bytes("VmHWM")

    def profile(self, batch_size: int, runs: int) -> tuple[OperatorTime, ...]:
        """Return each operator's time in a session of its own, under the runtime's profiler."""
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's would log each start and stop
        spec = parse_spec(self._job.backend)
        backend = load_backend(spec)
        if not hasattr(backend, "profile"):
            raise BackendError(f"backend {spec.backend!r} has no profiler of operators")
        return backend.profile(
            NetworkSource(self._job.path, self._build_module),
            device=self._job.device,
            threads=self._job.threads,
            options=spec.options,
            batches=[x for _, x in self._batches_of(batch_size)],
            runs=runs,
        )

    def close(self) -> None:
        """Free everything."""
        if self._streams is not None:
            self._streams.close()
        self._stack.close()

    def _take_module(self) -> Any:
        """Return the module that `load` built, once; a new one after that."""
        module, self._module = self._module, None
        return self._build_module() if module is None else module

    def _build_module(self) -> Any:
        from foldbench.bench.workers.torch_module import build_module  # loads torch and pydantic

        return build_module(self._job)

    def _check(self, indices: npt.NDArray[np.int64], output: Floats) -> None:
        """Raise BackendError when a timed output is not what the accuracy pass gave."""
        if self._logits is None:
            raise BackendError("timed before its accuracy was taken")
        expected = self._logits[indices]
        precision = self._session.precision if self._session else ""
        share = _TIMED_OUTPUT_TOLERANCE.get(precision, _COARSE_TOLERANCE)
        allowed = share * float(np.abs(expected).max())
        if output.shape != expected.shape or not np.abs(output - expected).max() <= allowed:
            raise BackendError(
                f"an output at batch size {len(indices)} differs from the one of the accuracy pass "
                "on the same images: its speed means nothing"
            )

    def _batches_of(self, size: int) -> list[tuple[npt.NDArray[np.int64], Floats]]:
        """Return distinct batches of real images, with the images' indices; made once."""
        if size not in self._batches:
            self._batches = {size: self._make_batches(size)}  # those of one size at a time
        return self._batches[size]

    def _make_batches(self, size: int) -> list[tuple[npt.NDArray[np.int64], Floats]]:
        image_bytes = 4 * int(np.prod(self._images.shape[1:]))
        count = max(2, min(_DISTINCT_BATCHES, _BATCH_MEMORY_BYTES // (size * image_bytes)))
        indices = [(np.arange(size) + n * (size + 1)) % self._count for n in range(count)]
        return [(chosen, self._inputs(chosen)) for chosen in indices]

    def _one_batch(self, size: int) -> Floats:
        return self._inputs(np.arange(size) % self._count)

    def _inputs(self, indices: npt.NDArray[np.int64]) -> Floats:
        return normalize(self._images[indices], self._job.mean, self._job.std)

    def _opened(self) -> Session:
        if self._session is None:
            raise BackendError("the network is not open")
        return self._session

    @property
    def _count(self) -> int:
        return len(self._images)

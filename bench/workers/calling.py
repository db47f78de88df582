"""What a worker is asked besides accuracy and blocks of calls: see bench.measure.calling."""

import gc
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foldbench.bench.backends import Allocating, Closing, Floats, NetworkSource, Session, Shareable
from foldbench.bench.config.backend_spec import load_backend, parse_spec
from foldbench.bench.errors import BackendError, BenchError, one_line
from foldbench.bench.machine.gpu import find_first_visible, open_nvml, read_own_memory_bytes
from foldbench.bench.samples.calling import (
    BatchPeak,
    MemoryPoint,
    MemoryUse,
    StageBlock,
    StreamBlock,
)
from foldbench.bench.samples.load import LoadTest
from foldbench.bench.timing.arrivals import LoadOptions, serve
from foldbench.bench.timing.loop import BlockOptions, Clock, call, warm_up
from foldbench.bench.timing.memory import (
    held_after_calls,
    read_pss_bytes,
    read_status_bytes,
    reset_peak,
)
from foldbench.bench.timing.stages import time_stages
from foldbench.bench.timing.streams import Streams
from foldbench.bench.workers.protocol import Job

if TYPE_CHECKING:
    from foldbench.bench.records import Preprocessing

_WARM_CALLS = 50
_PEAK_CALLS = 3
_LOAD_INPUTS = 32
"""Images that load tests take turns with."""


class CallingRequests(Closing):
    """Requests of a process of their own."""

    _job: Job
    _clock: Clock
    _session: Session | None
    _streams: Streams | None = None
    _load_inputs: Floats

    def _build_module(self) -> Any:
        """Build the module that is run, where the backend runs one."""
        raise NotImplementedError

    def _batches_of(self, size: int) -> list[tuple[Any, Floats]]:
        """Return batches, kept, with the indices of their images."""
        raise NotImplementedError

    def _check(self, indices: Any, output: Floats) -> None:
        """Raise BackendError when an output is not what the accuracy pass gave."""
        raise NotImplementedError

    def _opened(self) -> Session:
        """Return the open session; raise BackendError where there is none."""
        raise NotImplementedError

    def know(self, logits: Floats) -> None:
        """Take `logits` (N, classes) as the right answers, without a call."""
        raise NotImplementedError

    def _one_batch(self, size: int) -> Floats:
        """Return the inputs of one batch, and keep none."""
        raise NotImplementedError

    def _hold(self, session: Session) -> Session:
        """Keep an open session until the end, and return it."""
        raise NotImplementedError

    def _open_session(
        self, threads: int | None = None, build_module: Callable[[], Any] | None = None
    ) -> Session:
        spec = parse_spec(self._job.backend)
        return load_backend(spec).open_session(
            NetworkSource(self._job.path, build_module or self._build_module),
            device=self._job.device,
            threads=threads or self._job.threads,
            options=spec.options,
        )

    def open_streams(self, batch_size: int, streams: int, threads: int, shared: bool) -> None:
        """Open so many sessions with `threads` threads for one operator, a caller each.

        With `shared` there is one open network, which all of them call; raises BackendError where
        its backend has no way to.
        """
        batches = self._batches_of(batch_size)
        openers: list[Callable[[], Session]] = [partial(self._open_session, threads)] * streams
        if shared:
            session = self._hold(self._open_session(threads))
            if not isinstance(session, Shareable):
                raise BackendError("its backend has no session that several threads can call")
            openers = [session.another] * streams
        self._streams = Streams(openers, [x for _, x in batches], self._clock)

    def time_streams(
        self, batch_size: int, calls: int, block_s: float, settle_s: float
    ) -> StreamBlock:
        """Time one block of all streams; raise BackendError when an output is not the right one."""
        if self._streams is None:
            raise BackendError("no streams are open")
        timed = self._streams.time(calls, block_s, settle_s)
        batches = self._batches_of(batch_size)
        for index, output in timed.outputs:
            self._check(batches[index][0], output)
        return timed.block

    def time_stages(
        self, files: tuple[Path, ...], preprocessing: "Preprocessing | None", options: BlockOptions
    ) -> StageBlock:
        """Time the way from image files to classes, stage by stage.

        Without `preprocessing` the graph does it.
        """
        from foldbench.bench.workers import image_stages  # loads Pillow and pydantic

        session = self._session or self._hold(self._open_session())
        if preprocessing is None:
            steps = image_stages.steps_of_image_file(session)
        else:
            steps = image_stages.steps_to_class(session, preprocessing)
        return time_stages(steps, files, options, self._clock)

    def prepare_load(self, sizes: tuple[int, ...]) -> float:
        """Make untimed calls at each batch size; return the median call of one image, seconds."""
        self._load_inputs = self._one_batch(max(_LOAD_INPUTS, *sizes))
        logits = [call(self._opened(), x[None]).copy() for x in self._load_inputs]
        self.know(np.concatenate(logits))
        batches = {size: self._load_inputs[:size] for size in sizes}
        warm = {size: warm_up(self._opened(), [x], 0.2, self._clock) for size, x in batches.items()}
        return warm[1].call_s

    def serve_load(
        self, arrivals_s: tuple[float, ...], options: LoadOptions, rate_per_s: float, seed: int
    ) -> LoadTest:
        """Answer images as they arrive; raise BackendError when an output is not the right one."""
        served = serve(
            self._opened(), self._load_inputs, arrivals_s, options, self._clock, time.sleep
        )
        for first, size, output in served.outputs:
            self._check(np.arange(first, first + size), output)
        return LoadTest(
            rate_per_s=rate_per_s,
            seed=seed,
            latencies_s=served.latencies_s,
            calls=served.calls,
            duration_s=served.duration_s,
            unanswered=served.unanswered,
        )

    def measure_memory(self, sizes: tuple[int, ...], calls: int, limit_s: float) -> MemoryUse:
        """Import, open and call the network; return its memory at each step.

        Growth is measured over `calls` calls at the first of the batch `sizes`, or as many as
        `limit_s` seconds allow.
        """
        points = [_point("start")]
        load_backend(parse_spec(self._job.backend))
        points.append(_point("import"))
        session = self._session or self._hold(self._open_session())
        read_gpu = _gpu_reader(session.device)
        points.append(_point("opening", read_gpu))
        x = self._one_batch(sizes[0])
        for _ in range(_WARM_CALLS):
            call(session, x)
        points.append(_point("warm-up", read_gpu))
        each, held = held_after_calls(lambda: call(session, x), calls, limit_s, self._clock)
        return MemoryUse(
            points=tuple(points),
            peaks=tuple(self._peak(session, size) for size in sizes),
            calls_each=each,
            held_bytes=held,
        )

    def _peak(self, session: Session, size: int) -> BatchPeak:
        try:
            x = self._one_batch(size)
            if not reset_peak():
                raise BackendError("this system does not tell the peak of a part of a process")
            if isinstance(session, Allocating):
                session.allocated_peak_bytes()
            for _ in range(_PEAK_CALLS):
                call(session, x)
            allocated = None
            if isinstance(session, Allocating):
                allocated = session.allocated_peak_bytes()
        except MemoryError:
            return BatchPeak(batch_size=size, peak_bytes=None, reason="out of memory")
        except BenchError as error:
            return BatchPeak(batch_size=size, peak_bytes=None, reason=str(error))
        except Exception as error:  # a runtime may raise anything; it is this size's reason
            reason = f"{type(error).__name__}: {one_line(error)}"
            return BatchPeak(batch_size=size, peak_bytes=None, reason=reason)
        peak_bytes = read_status_bytes("VmHWM")
        return BatchPeak(batch_size=size, peak_bytes=peak_bytes, allocator_bytes=allocated)


def _point(after: Any, read_gpu: Callable[[], int | None] = lambda: None) -> MemoryPoint:
    gc.collect()
    return MemoryPoint(
        after=after,
        rss_bytes=read_status_bytes("VmRSS"),
        pss_bytes=read_pss_bytes(),
        gpu_bytes=read_gpu(),
    )


def _gpu_reader(device: str) -> Callable[[], int | None]:
    """Return what reads how much of the GPU's memory this process holds."""
    nvml = open_nvml()[0] if device.startswith("cuda") else None
    handle = find_first_visible(nvml, os.environ)
    return partial(read_own_memory_bytes, nvml, handle) if handle else lambda: None

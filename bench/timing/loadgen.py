"""LoadGen at work on an open network, in the process that holds it.

LoadGen calls back from the thread that starts the test. The streams and offline are answered there
and then. For server, LoadGen gets a thread of its own, and this one answers what has arrived: the
network stays in the thread that opened it, to which a runtime's state may belong (torch's inference
mode does).
"""

import hashlib
import queue
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt

from foldbench.bench import units
from foldbench.bench.backends import Floats, Session
from foldbench.bench.errors import BackendError
from foldbench.bench.machine.interference import (
    Counters,
    measure_between,
    measure_foreign_between,
    read_counters,
)
from foldbench.bench.timing.loop import call, no_garbage_collection
from foldbench.bench.timing.scenarios import MOST_QUERIES, Driven, ScenarioOptions

Indices = npt.NDArray[np.int64]
Sample = Any
"""LoadGen's QuerySample: its `id`, and the `index` of the image that it is about."""
Issue = Callable[[list[Sample]], None]

_KEPT_OUTPUTS = 32
"""Outputs that are kept at least, where there are as many; twice as many at the most."""
_SPARE = 1.2
"""How many more samples than expected offline is given, lest it ends before its time."""
_SAMPLE_S = 1e-6
"""What handing one sample over to Python takes LoadGen at least, beside the network's own time."""
_LINGER_S = 60.0
"""How long LoadGen may keep silent beyond the time of a whole test."""


def drive(
    session: Session,
    images: "Images",
    options: ScenarioOptions,
    call_s: float,
    folder: Path,
) -> tuple[Driven, list[tuple[Indices, Floats]]]:
    """Run one test; return what is known of it, and a share of the outputs with their images.

    `call_s` is what a call at the largest batch size takes; LoadGen's files are in `folder` for a
    while. Raises what the network raised, or BackendError when LoadGen does not end.
    """
    import mlperf_loadgen

    system = _System(session, images, options, mlperf_loadgen)
    with tempfile.TemporaryDirectory(dir=folder) as logs, no_garbage_collection():
        settings = _settings(mlperf_loadgen, options, call_s)
        test = partial(_test, mlperf_loadgen, system, settings, Path(logs))
        if options.scenario == "server":
            _serve(system, test, options)
        else:
            test(system.answer_all)
        driven = system.account_for(Path(logs, "mlperf_log_detail.txt"))
    return driven, system.kept()


class Images:
    """LoadGen's sample library: test images as the network takes them, loaded when it says so."""

    def __init__(self, total: int, at_once: int, prepare: Callable[[Indices], Floats]) -> None:
        """`prepare` returns the inputs (N, C, H, W) float32 of N images by their indices.

        `at_once` of the `total` images are in memory together.
        """
        self.total, self.at_once = total, at_once
        self._prepare = prepare
        self._slots: dict[int, int] = {}
        self._inputs: Floats = np.empty(0, np.float32)

    def load(self, indices: Iterable[int]) -> None:
        """Have these images in memory, in this order."""
        order = list(dict.fromkeys(indices))  # multistream names some twice
        self._inputs = self._prepare(np.array(order))
        self._slots = {index: slot for slot, index in enumerate(order)}

    def batch(self, indices: Sequence[int]) -> Floats:
        """Return the inputs of loaded images as one array, without a copy where they adjoin."""
        slots = [self._slots[index] for index in indices]
        first, last = slots[0], slots[-1] + 1
        if slots == list(range(first, last)):
            return self._inputs[first:last]
        return self._inputs[slots]


class _System:
    """The system under test: answers samples in batches, and never lets LoadGen wait for ever."""

    def __init__(
        self, session: Session, images: Images, options: ScenarioOptions, loadgen: Any
    ) -> None:
        self.images = images
        self.failure: Exception | None = None
        self._session = session
        self._options = options
        self._loadgen = loadgen
        self._deadline_s = 0.0
        self._answered = self._unanswered = self._calls = 0
        self._kept: dict[int, tuple[Indices, Floats]] = {}  # by the number of the call
        self._keep_each = 1
        self._last: tuple[Indices, Floats] | None = None
        self._before: Counters | None = None
        self._after: Counters | None = None

    def load(self, indices: Sequence[int]) -> None:
        """Load images; the test begins when this returns."""
        try:
            self.images.load(indices)
        except Exception as error:  # it must not pass through LoadGen, which cannot take it
            self.failure = error
        self._before = read_counters()
        self._deadline_s = time.monotonic() + self._options.give_up_s

    def flush(self) -> None:
        """Hear that no more queries come; but for server's, all of them are answered."""
        self._after = read_counters()

    def unload(self, indices: Sequence[int]) -> None:
        """Hear that all queries are answered, and LoadGen's figures made."""
        if self._options.scenario == "server":
            self._after = read_counters()

    def answer_all(self, samples: Sequence[Sample]) -> None:
        """Answer the samples of a query in batches of the largest size."""
        size = self._options.batch_sizes[-1]
        for start in range(0, len(samples), size):
            self.answer(samples[start : start + size])

    def answer(self, samples: Sequence[Sample]) -> None:
        """Compute the samples as one batch and tell LoadGen that they are done.

        After a failure, or when the time is over, they are given back uncomputed, so that LoadGen
        comes to its end.
        """
        indices = [sample.index for sample in samples]
        output = self._compute(indices)
        response = self._loadgen.QuerySampleResponse
        self._loadgen.QuerySamplesComplete([response(sample.id, 0, 0) for sample in samples])
        if output is None:
            self._unanswered += len(samples)
        else:  # by now the answer has its time
            self._keep(indices, output)

    def _compute(self, indices: Sequence[int]) -> Floats | None:
        if self.failure is not None or time.monotonic() > self._deadline_s:
            return None
        try:
            return call(self._session, self.images.batch(indices))
        except Exception as error:  # a runtime may raise anything; drive() raises it in the end
            self.failure = error
            return None

    def _keep(self, indices: Sequence[int], output: Floats) -> None:
        """Keep outputs spread evenly over the calls, and the last one."""
        self._answered += len(indices)
        self._last = (np.array(indices), output)
        if self._calls % self._keep_each == 0:
            self._kept[self._calls] = (self._last[0], output.copy())
            if len(self._kept) == 2 * _KEPT_OUTPUTS:
                self._keep_each *= 2
                self._kept = {n: k for n, k in self._kept.items() if n % self._keep_each == 0}
        self._calls += 1

    def kept(self) -> list[tuple[Indices, Floats]]:
        """Return outputs (N, classes) with the indices (N,) of their images."""
        last = {self._calls - 1: self._last} if self._last else {}
        return list({**self._kept, **last}.values())

    def account_for(self, path: Path) -> Driven:
        """Return the account of the test whose log is at `path`; raise what went wrong in it."""
        if self.failure is not None:
            raise self.failure
        if self._before is None or self._after is None or not path.is_file():
            raise BackendError("LoadGen ended without a test")
        before, after, log = self._before, self._after, path.read_bytes()
        return Driven(
            log=log.decode(errors="replace"),
            log_sha256=hashlib.sha256(log).hexdigest(),
            sample_count=self._answered,
            unanswered_count=self._unanswered,
            call_count=self._calls,
            duration_s=after.wall_s - before.wall_s,
            interference=measure_between(before, after),
            foreign_load_cores=measure_foreign_between(before, after),
        )


def _test(loadgen: Any, system: _System, settings: Any, folder: Path, issue: Issue) -> None:
    """Run one test of LoadGen's; `issue` hears the samples of each query, in this thread."""
    logs = loadgen.LogSettings()
    output = logs.log_output
    output.outdir = str(folder)
    logs.log_output = output
    logs.enable_trace = False
    images = system.images
    sut = loadgen.ConstructSUT(issue, system.flush)
    qsl = loadgen.ConstructQSL(images.total, images.at_once, system.load, system.unload)
    try:
        # Without a name of its own, a file audit.config in the current folder would change it.
        audit = str(folder / "audit.config")
        loadgen.StartTestWithLogSettings(sut, qsl, settings, logs, audit)
    finally:
        loadgen.DestroyQSL(qsl)
        loadgen.DestroySUT(sut)


def _serve(system: _System, test: Callable[[Issue], None], options: ScenarioOptions) -> None:
    """Answer what arrives: as many samples at once as have queued, up to the largest batch."""
    inbox: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()

    def put(samples: Iterable[Sample]) -> None:
        for sample in samples:
            inbox.put(sample)

    def generate() -> None:
        try:
            test(put)
        except Exception as error:
            system.failure = system.failure or error
        finally:
            inbox.put(None)

    Thread(target=generate, name="loadgen", daemon=True).start()
    waiting: deque[Sample] = deque()
    while _receive(inbox, waiting, options):
        size = max(size for size in options.batch_sizes if size <= len(waiting))
        system.answer([waiting.popleft() for _ in range(size)])


def _receive(
    inbox: "queue.SimpleQueue[Sample | None]", waiting: deque[Sample], options: ScenarioOptions
) -> bool:
    """Add what has arrived, at least one sample, to `waiting`; return whether there is more to do.

    Raises BackendError when LoadGen keeps silent for too long.
    """
    while len(waiting) < options.batch_sizes[-1]:
        try:
            arrived = inbox.get(block=not waiting, timeout=options.give_up_s + _LINGER_S)
        except queue.Empty:
            if not waiting:
                raise BackendError("LoadGen neither sent a query nor came to an end") from None
            return True
        if arrived is None:
            return False
        waiting.append(arrived)
    return True


def _settings(loadgen: Any, options: ScenarioOptions, call_s: float) -> Any:
    """Return LoadGen's settings; raise BackendError when they ask for too many queries."""
    size = options.batch_sizes[-1]
    expected_qps = {
        "server": options.qps or 0.0,
        "offline": _SPARE * size / (call_s + size * _SAMPLE_S),
    }.get(options.scenario, 2 / call_s)  # LoadGen makes twice as many as the streams should need
    if expected_qps * options.duration_s > MOST_QUERIES:
        raise BackendError(
            f"{options.scenario} for {units.plain(options.duration_s)} s at "
            f"{units.whole(expected_qps)} queries a "
            f"second is more than the {units.count(MOST_QUERIES)} queries that LoadGen is let "
            "make: ask for "
            "less time or fewer queries"
        )
    settings = loadgen.TestSettings()
    settings.scenario = {
        "singlestream": loadgen.TestScenario.SingleStream,
        "multistream": loadgen.TestScenario.MultiStream,
        "offline": loadgen.TestScenario.Offline,
        "server": loadgen.TestScenario.Server,
    }[options.scenario]
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(1000 * options.duration_s)
    settings.max_duration_ms = round(1000 * options.limit_s)
    settings.min_query_count = options.min_query_count
    settings.qsl_rng_seed = settings.sample_index_rng_seed = options.seed
    settings.schedule_rng_seed = options.seed
    settings.single_stream_expected_latency_ns = max(1, round(1e9 * call_s))
    settings.multi_stream_expected_latency_ns = max(1, round(1e9 * call_s))
    settings.multi_stream_samples_per_query = size
    settings.offline_expected_qps = expected_qps
    if options.qps is not None and options.latency_bound_s is not None:
        settings.server_target_qps = options.qps
        settings.server_target_latency_ns = round(1e9 * options.latency_bound_s)
    return settings

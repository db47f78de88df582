"""A contender while it is compared: its process, and what was found of it so far."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from foldbench.bench.backends import Floats
from foldbench.bench.errors import BackendError, BenchError
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.series import Generation, MeasurementSeries, Times
from foldbench.bench.records import (
    AsCalled,
    Block,
    Boundary,
    Called,
    Driven,
    Ended,
    Event,
    Failed,
    InputProbe,
    ScenarioResult,
    Shortage,
    Shortened,
    Status,
    StopReason,
    Timed,
    Warmed,
)
from foldbench.bench.timing.loop import WarmUp
from foldbench.bench.workers.protocol import Job, Opened
from foldbench.bench.workers.server import WorkerServer

StartWorker = Callable[[Job], WorkerServer]
"""Gives a contender the worker that runs it."""


@dataclass
class Result:
    """What was found of one contender so far."""

    status: Status = "ok"
    reason: str | None = None
    opened: Opened | None = None
    logits: Floats | None = None
    """(N, classes) float32, of all images."""
    times: Times = field(default_factory=Times)
    scenarios: list[ScenarioResult] = field(default_factory=list)
    as_called: AsCalled | None = None
    input_probes: tuple[InputProbe, ...] = ()
    """What other ways to make the input gave."""
    peak_memory_bytes: int | None = None
    not_resident: str | None = None
    """Why it is not timed device-resident (any more) although it runs on a GPU."""


def _keep_nothing(event: Event) -> None:
    """Take what is to be logged where no log is kept."""


class Contender:
    """One row in the making; `log` takes what was found as soon as it is.

    `session` is which start of the comparison it runs in: 2 and up after an interruption.
    `baseline` is the backend and variant that its speed-up is against; `network` names the network
    where several are compared.
    """

    def __init__(
        self,
        spec: ContenderSpec,
        worker: WorkerServer | None = None,
        log: Callable[[Event], None] = _keep_nothing,
        session: int = 1,
        baseline: str = "torch/unfolded",
        network: str = "",
    ) -> None:
        self.spec = spec
        self.baseline = baseline
        self.network = network
        self.worker = worker
        self.log = log
        self.session = session
        self.load_s = 0.0
        """What its first process took until it had imported its runtime, seconds."""
        self.open_s = 0.0
        """What it took from there until it had opened the network, seconds."""
        self.result = Result(spec.status, spec.reason)

    @property
    def name(self) -> str:
        """Unique within the run, such as ``ort/folded/cpu``."""
        return self.spec.name

    @property
    def label(self) -> str:
        """Unique within the comparison: its name, with its network's where there are several."""
        return f"{self.network}: {self.name}" if self.network else self.name

    @property
    def is_ok(self) -> bool:
        """Whether it is still in."""
        return self.result.status == "ok"

    @property
    def actual_device(self) -> str:
        """Where it runs, such as ``cuda:0``; where it is to run before it is open."""
        return self.result.opened.device if self.result.opened else self.spec.device

    def start(self, job: Job, start_worker: StartWorker) -> None:
        """Have a worker of its own open the network."""
        started = time.monotonic()
        with failures_of(self):
            self.worker = start_worker(job)
            self.worker.load()
            loaded = time.monotonic()
            opened = self.result.opened = self.worker.open()
            self.load_s, self.open_s = loaded - started, time.monotonic() - loaded
            if opened.device.startswith("cuda") and not opened.resident:
                reason = "its backend cannot keep input and output on the device"
                self.result.not_resident = reason

    def load_anew(self, job: Job, start_worker: StartWorker) -> None:
        """Have a new worker import the runtime, in place of the one that there is."""
        self.close()
        with failures_of(self):
            self.worker = start_worker(job)
            self.worker.load()

    def open_anew(self, logits: Floats) -> None:
        """Have the new worker open the network, whose outputs have to be near `logits`.

        What the record says of a start is the first one's, which was alone on the machine.
        """
        with failures_of(self):
            worker = self.require_worker()
            opened, first = worker.open(), self.result.opened
            if first is not None and opened.device != first.device:
                raise BackendError(f"a new process runs on {opened.device}, not on {first.device}")
            worker.expect(logits)

    def require_worker(self) -> WorkerServer:
        """Return the worker that runs it."""
        if self.worker is None:
            raise BackendError("no process runs it any more")
        return self.worker

    def is_resident(self) -> bool:
        """Return whether it can be timed with input and output on the device."""
        opened = self.result.opened
        return bool(opened and opened.resident and self.result.not_resident is None)

    def takes_part(self, series: MeasurementSeries, smallest: int) -> bool:
        """Return whether it is timed in a series; `smallest` is the smallest batch size of all.

        One thread is timed there alone: that shows in every round whether the machine changed, at
        the least cost, where at large batches it may take longer than all others together.
        """
        if self.spec.refuse_batches(series.batch_size):
            return False
        if not self.is_ok or (self.spec.role == "one_thread" and series.batch_size > smallest):
            return False
        return series.boundary == "host" or self.is_resident()

    def fail(self, reason: str) -> None:
        """Take it out of the comparison, with a reason; the first one stays."""
        if self.result.status == "failed":
            return
        self.result.status, self.result.reason = "failed", reason
        self.log(Failed(contender=self.name, boundary="host", reason=reason))
        self.close()

    def fail_resident(self, reason: str) -> None:
        """Take it out of the rounds on the device alone; unfinished ones there do not count."""
        self.result.not_resident = reason
        self.result.times.drop_unfinished("device")
        self.log(Failed(contender=self.name, boundary="device", reason=reason))

    def add_warm_up(self, series: MeasurementSeries, warm_up: WarmUp) -> None:
        """Note and log a warm-up."""
        self.result.times.begin(series, warm_up)
        self.log(Warmed(contender=self.name, **series._asdict(), **vars(warm_up)))

    def add_block(self, series: MeasurementSeries, block: Block, settle_calls: int) -> None:
        """Note and log one timed block."""
        self.result.times.add(series, block, settle_calls)
        fields = series._asdict()
        self.log(Timed(contender=self.name, **fields, settle_calls=settle_calls, block=block))

    def add_scenario(self, result: ScenarioResult) -> None:
        """Note and log what LoadGen measured in one scenario."""
        self.result.scenarios.append(result)
        self.log(Driven(contender=self.name, result=result))

    def add_called(self, found: AsCalled) -> None:
        """Note and log what was found by calling it in a further way."""
        self.result.as_called = (self.result.as_called or AsCalled()).with_found(found)
        self.log(Called(contender=self.name, found=found))

    def last_repeat(self) -> int:
        """Return the number of the last repetition that anything was measured in, 1 before any."""
        driven = (driven.repeat for driven in self.result.scenarios)
        return max([self.result.times.last_generation().repeat, *driven])

    def close(self) -> None:
        """End its process."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None


def shorten_series(
    contenders: Sequence[Contender], series: MeasurementSeries, shortage: Shortage
) -> None:
    """Note and log that the blocks of a series are shortened for `contenders`."""
    for contender in contenders:
        contender.result.times.shortages[series] = shortage
    for same in _by_network(contenders):
        names = tuple(contender.name for contender in same)
        same[0].log(Shortened(contenders=names, **series._asdict(), shortage=shortage))


def end_series(
    contenders: Sequence[Contender],
    series: MeasurementSeries,
    generation: Generation,
    stopped: StopReason,
) -> None:
    """Note and log that a generation's rounds of a series ended for `contenders`, and why."""
    for contender in contenders:
        contender.result.times.end(series, generation, stopped)
    for same in _by_network(contenders):
        names = tuple(contender.name for contender in same)
        fields = series._asdict() | generation._asdict()
        same[0].log(Ended(contenders=names, **fields, stopped=stopped))


def _by_network(contenders: Sequence[Contender]) -> list[list[Contender]]:
    """Return the contenders of each network, which have a log of their own."""
    found: dict[str, list[Contender]] = {}
    for contender in contenders:
        found.setdefault(contender.network, []).append(contender)
    return list(found.values())


def original_of(contender: Contender, contenders: Sequence[Contender]) -> Contender | None:
    """Return the one that a speed-up is against: the same network's baseline on the same device.

    None where that does not run.
    """
    name = f"{contender.baseline}/{contender.spec.device}"  # with the first number of threads
    same = (c for c in contenders if c.network == contender.network and c.is_ok)
    return next((c for c in same if c.name == name), None)


@contextmanager
def failures_of(contender: Contender, boundary: Boundary = "host") -> Iterator[None]:
    """Turn an error of foldbench's own into the contender's reason; it is out from then on.

    One that fails device-resident is out there alone: its figures from host to host stay.
    """
    try:
        yield
    except BenchError as error:
        if boundary == "host":
            contender.fail(str(error))
        else:
            contender.fail_resident(str(error))

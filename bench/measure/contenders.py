"""The rows of a comparison: which there are, and which of them are known not to run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from foldbench.bench.backends import Floats
from foldbench.bench.config.backend_spec import load_backend, parse_spec
from foldbench.bench.errors import BackendError, BenchError
from foldbench.bench.machine.environment import has_nvidia_gpu
from foldbench.bench.measure.series import MeasurementSeries, Times
from foldbench.bench.measure.targets import files_for, target_of
from foldbench.bench.records import (
    Artifact,
    Block,
    Boundary,
    Checkpoint,
    Device,
    Driven,
    Ended,
    Event,
    Failed,
    Role,
    ScenarioResult,
    Shortage,
    Shortened,
    Status,
    StopReason,
    Timed,
    Variant,
    Warmed,
)
from foldbench.bench.store.files import file_sha256
from foldbench.bench.timing.loop import WarmUp
from foldbench.bench.workers.protocol import Opened, WorkerProtocol

REFERENCE = "torch/unfolded/cpu"

_SUFFIX: dict[Role, str] = {"contender": "", "again": " again", "one_thread": " 1 thread"}


@dataclass(frozen=True)
class Subject:
    """The run that is compared."""

    folder: Path
    checkpoint: Checkpoint
    artifacts: tuple[Artifact, ...]
    ablation: bool = False
    """Whether the steps on the way to what is shipped are compared too."""


def _keep_nothing(event: Event) -> None:
    """Take what is to be logged where no log is kept."""


@dataclass
class Contender:
    """One row in the making."""

    backend: str
    variant: Variant
    device: Device
    path: Path | None = None
    source_sha256: str | None = None
    size_bytes: int | None = None
    reason: str | None = None
    status: Status = "ok"
    worker: WorkerProtocol | None = None
    opened: Opened | None = None
    logits: Floats | None = None
    times: Times = field(default_factory=Times)
    scenarios: list[ScenarioResult] = field(default_factory=list)
    peak_memory_bytes: int | None = None
    role: Role = "contender"
    not_resident: str | None = None
    """Why it is not timed device-resident (any more) although it runs on a GPU."""
    session: int = 1
    """Which start of the comparison it runs in: 2 and up after an interruption."""
    log: Callable[[Event], None] = _keep_nothing
    """Takes what was found as soon as it is."""

    @property
    def actual_device(self) -> str:
        """Where it runs, such as ``cuda:0``; where it is to run before it is open."""
        return self.opened.device if self.opened else self.device

    @property
    def name(self) -> str:
        """Unique within the run, such as ``ort/folded/cpu``."""
        return f"{self.backend}/{self.variant}/{self.device}{_SUFFIX[self.role]}"

    def require_worker(self) -> WorkerProtocol:
        """Return the worker that runs it."""
        if self.worker is None:
            raise BackendError("no process runs it any more")
        return self.worker

    def is_resident(self) -> bool:
        """Return whether it can be timed with input and output on the device."""
        return bool(self.opened and self.opened.resident and self.not_resident is None)

    def takes_part(self, series: MeasurementSeries, smallest: int) -> bool:
        """Return whether it is timed in a series; `smallest` is the smallest batch size of all.

        One thread is timed there alone: that shows in every round whether the machine changed, at
        the least cost, where at large batches it may take longer than all others together.
        """
        if self.status != "ok" or (self.role == "one_thread" and series.batch_size > smallest):
            return False
        return series.boundary == "host" or self.is_resident()

    def fail(self, reason: str) -> None:
        """Take it out of the comparison, with a reason; the first one stays."""
        if self.status == "failed":
            return
        self.status, self.reason = "failed", reason
        self.log(Failed(contender=self.name, boundary="host", reason=reason))
        self.close()

    def fail_resident(self, reason: str) -> None:
        """Take it out of the rounds on the device alone; unfinished ones there do not count."""
        self.not_resident = reason
        self.times.drop_unfinished("device")
        self.log(Failed(contender=self.name, boundary="device", reason=reason))

    def add_warm_up(self, series: MeasurementSeries, warm_up: WarmUp) -> None:
        """Note and log a warm-up."""
        self.times.begin(series, warm_up)
        self.log(Warmed(contender=self.name, **series._asdict(), **vars(warm_up)))

    def add_block(self, series: MeasurementSeries, block: Block, settle_calls: int) -> None:
        """Note and log one timed block."""
        self.times.add(series, block, settle_calls)
        self.log(
            Timed(
                contender=self.name,
                **series._asdict(),
                settle_calls=settle_calls,
                block=block,
            )
        )

    def add_scenario(self, result: ScenarioResult) -> None:
        """Note and log what LoadGen measured in one scenario."""
        self.scenarios.append(result)
        self.log(Driven(contender=self.name, result=result))

    def last_repeat(self) -> int:
        """Return the number of the last repetition that anything was measured in, 1 before any."""
        measured = [b.repeat for blocks in self.times.blocks.values() for b in blocks]
        return max([1, *measured, *(result.repeat for result in self.scenarios)])

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
        contender.times.shortages[series] = shortage
    names = tuple(contender.name for contender in contenders)
    contenders[0].log(Shortened(contenders=names, **series._asdict(), shortage=shortage))


def end_series(
    contenders: Sequence[Contender], series: MeasurementSeries, repeat: int, stopped: StopReason
) -> None:
    """Note and log that the rounds of a series ended for `contenders`, and why."""
    for contender in contenders:
        contender.times.end(series, repeat, stopped)
    if contenders:
        names = tuple(contender.name for contender in contenders)
        fields = series._asdict()
        contenders[0].log(Ended(contenders=names, **fields, repeat=repeat, stopped=stopped))


def original_of(contender: Contender, contenders: Sequence[Contender]) -> Contender | None:
    """Return the one that a speed-up is against: unfolded torch on the same device, if it runs."""
    name = f"torch/unfolded/{contender.device}"
    return next((c for c in contenders if c.name == name and c.status == "ok"), None)


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


def list_contenders(
    subject: Subject, backends: Sequence[str], devices: Sequence[Device]
) -> list[Contender]:
    """Return every contender, those included that are known not to run, with their reasons."""
    return [
        contender
        for device in devices
        for backend in backends
        for contender in contenders_of(subject, backend, device)
    ]


def list_self_checks(contenders: Sequence[Contender], threads: int) -> list[Contender]:
    """Return the reference of each device once more, and on the CPU also with one thread."""
    checks = []
    for contender in contenders:
        if (contender.backend, contender.variant, contender.status) != ("torch", "unfolded", "ok"):
            continue
        roles: list[Role] = ["again"]
        if contender.device == "cpu" and threads > 1:
            roles.append("one_thread")
        for role in roles:
            checks.append(replace(contender, role=role, times=Times(), scenarios=[]))
    return checks


def contenders_of(subject: Subject, backend: str, device: Device) -> Iterator[Contender]:
    """Yield the rows of one backend on one device."""
    try:
        spec = parse_spec(backend)
        module = load_backend(spec)
        refuse = getattr(module, "refuse", None)
        reason = refuse(spec.options, device) if refuse else None
    except BenchError as error:
        yield Contender(backend, "folded", device, reason=str(error), status="failed")
        return
    backend = str(spec)
    if reason:
        yield Contender(backend, "folded", device, reason=reason, status="skipped")
        return
    if module.FORMAT == "module":
        weights = subject.folder / subject.checkpoint.weights
        sha256, size = subject.checkpoint.sha256, subject.checkpoint.size_bytes
        if str(spec) == "torch":  # the reference; all else is a way of shipping it
            yield Contender(backend, "unfolded", device, weights, sha256, size)
        yield Contender(backend, "folded", device, weights, sha256)
        return
    target = target_of(module, spec.options, device)
    files = list(files_for(_exported(subject), target))
    if not files:
        what = f" for {device}" if _exported(subject) else ""
        reason = f"nothing is exported{what}: bench export {subject.folder.name}"
        yield Contender(backend, "folded", device, reason=reason, status="skipped")
    for artifact, variant in files:
        yield _of_artifact(subject, artifact, Contender(backend, variant, device))


def _exported(subject: Subject) -> list[Artifact]:
    """Return the artifacts to compare; steps of an ablation first, in their order."""
    steps = [a for a in subject.artifacts if a.ladder_step is not None and subject.ablation]
    shipped = [a for a in subject.artifacts if a.ladder_step is None]
    return sorted(steps, key=lambda a: a.ladder_step or 0) + shipped


def _of_artifact(subject: Subject, artifact: Artifact, contender: Contender) -> Contender:
    path = subject.folder / artifact.path
    contender.path, contender.source_sha256 = path, artifact.sha256
    contender.size_bytes = artifact.size_bytes
    again = f"bench export {subject.folder.name} {_how_to_export(artifact)}"
    if artifact.checkpoint_sha256 != subject.checkpoint.sha256:
        contender.fail(f"it was exported from other weights than the run's: {again}")
    elif not path.is_file() or file_sha256(path) != artifact.sha256:
        contender.fail(f"{artifact.path} is missing or is not the file that was exported: {again}")
    elif not artifact.parity.passed:
        contender.fail(f"it does not compute what the checkpoint does: {artifact.parity.reason}")
    elif artifact.quantization and not artifact.quantization.within_budget:
        contender.fail(f"it exceeds its budget of accuracy: {artifact.quantization.reason}")
    return contender


def _how_to_export(artifact: Artifact) -> str:
    """Return the options with which an artifact is made again."""
    if artifact.quantization is not None:
        option = f"--quantize {artifact.variant.partition('.')[0]}"
    else:
        option = "--no-fold-bn" if artifact.variant.startswith("unfolded") else "--fold-bn"
    return option if artifact.target == "cpu" else f"{option} --target {artifact.target}"


def devices_of(asked: Sequence[str]) -> tuple[Device, ...]:
    """Return the devices to use; ``auto`` is the CPU, and CUDA where there is an NVIDIA GPU."""
    devices: list[Device] = []
    for name in asked:
        if name == "auto":
            devices += ["cpu", "cuda"] if has_nvidia_gpu() else ["cpu"]
        else:
            devices.append("cuda" if name == "cuda" else "cpu")
    return tuple(dict.fromkeys(devices))

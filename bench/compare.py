"""Every artifact on every backend and device: the same images, the same clock, in turns."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.accuracy import measure_agreement
from bench.backends import Floats
from bench.config import CompareSection
from bench.errors import BenchError
from bench.progress import Listener
from bench.records import (
    Accuracy,
    Artifact,
    Block,
    Checkpoint,
    Device,
    Measurement,
    Protocol,
    Status,
    Timing,
    Variant,
)
from bench.registry import BACKENDS
from bench.storage import file_sha256
from bench.timing import BlockOptions
from bench.worker import Job, Opened, TimedBlock, Worker

REFERENCE = "torch/unfolded/cpu"


@dataclass(frozen=True)
class Evaluation:
    """The test split as every contender is given it."""

    protocol: Protocol
    images: Path
    """(N, C, H, W) uint8 as .npy."""
    labels: npt.NDArray[np.int64]
    """(N,) int64."""
    batch_size: int


@dataclass(frozen=True)
class Subject:
    """The run that is compared."""

    folder: Path
    checkpoint: Checkpoint
    artifacts: tuple[Artifact, ...]


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
    worker: Worker | None = None
    opened: Opened | None = None
    logits: Floats | None = None
    blocks: dict[int, list[TimedBlock]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Unique within the run, such as ``ort/folded/cpu``."""
        return f"{self.backend}/{self.variant}/{self.device}"

    def fail(self, reason: str) -> None:
        """Take it out of the comparison, with a reason."""
        self.status, self.reason = "failed", reason
        self.close()

    def close(self) -> None:
        """End its process."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None


def list_contenders(
    subject: Subject, backends: Sequence[str], devices: Sequence[Device]
) -> list[Contender]:
    """Return every contender, those included that are known not to run, with their reasons."""
    return [
        contender
        for device in devices
        for backend in backends
        for contender in _of_backend(subject, backend, device)
    ]


def compare(
    subject: Subject,
    contenders: Sequence[Contender],
    evaluation: Evaluation,
    settings: CompareSection,
    threads: int,
    listener: Listener,
) -> tuple[Measurement, ...]:
    """Measure accuracy and latency of every contender; a failure becomes its row's reason."""
    with ExitStack() as stack:
        for contender in contenders:
            stack.callback(contender.close)
        reference = _evaluate(subject, contenders, evaluation, threads, listener)
        _time_rounds(contenders, settings, listener)
    return tuple(_to_measurement(c, evaluation, reference) for c in contenders)


def _of_backend(subject: Subject, backend: str, device: Device) -> Iterator[Contender]:
    try:
        needs = BACKENDS.load(backend).FORMAT
    except BenchError as error:
        yield Contender(backend, "folded", device, reason=str(error), status="failed")
        return
    if needs == "module":
        weights = subject.folder / subject.checkpoint.weights
        sha256, size = subject.checkpoint.sha256, subject.checkpoint.size_bytes
        yield Contender(backend, "unfolded", device, weights, sha256, size)
        yield Contender(backend, "folded", device, weights, sha256)
        return
    if not subject.artifacts:
        reason = f"nothing is exported: bench export {subject.folder.name}"
        yield Contender(backend, "folded", device, reason=reason, status="skipped")
    for artifact in subject.artifacts:
        yield _of_artifact(subject, artifact, backend, device)


def _of_artifact(subject: Subject, artifact: Artifact, backend: str, device: Device) -> Contender:
    path = subject.folder / artifact.path
    contender = Contender(
        backend, artifact.variant, device, path, artifact.sha256, artifact.size_bytes
    )
    again = f"bench export {subject.folder.name}"
    if artifact.checkpoint_sha256 != subject.checkpoint.sha256:
        contender.fail(f"it was exported from other weights than the run's: {again}")
    elif not path.is_file() or file_sha256(path) != artifact.sha256:
        contender.fail(f"{artifact.path} is missing or is not the file that was exported: {again}")
    elif not artifact.parity.passed:
        contender.fail(f"it does not compute what the checkpoint does: {artifact.parity.reason}")
    return contender


def _evaluate(
    subject: Subject,
    contenders: Sequence[Contender],
    evaluation: Evaluation,
    threads: int,
    listener: Listener,
) -> Floats | None:
    """Open every contender and take its logits, one at a time; return the reference's."""
    runnable = [c for c in contenders if c.status == "ok"]
    listener.begin(f"accuracy on {len(evaluation.labels):,} test images", len(runnable))
    for number, contender in enumerate(runnable, start=1):
        listener.advance(number - 1, contender.name)
        _start(subject, contender, evaluation, threads)
        listener.advance(number, contender.name)
    listener.end()
    return _reference_logits(subject, contenders, evaluation, threads, listener)


def _reference_logits(
    subject: Subject,
    contenders: Sequence[Contender],
    evaluation: Evaluation,
    threads: int,
    listener: Listener,
) -> Floats | None:
    known = next((c for c in contenders if c.name == REFERENCE), None)
    if known is None:
        listener.note(f"taking the logits of {REFERENCE}, which agreement is measured against")
        (known,) = (c for c in _of_backend(subject, "torch", "cpu") if c.name == REFERENCE)
        _start(subject, known, evaluation, threads)
        known.close()
    if known.logits is None:
        listener.note(f"no agreement can be given: {REFERENCE} did not run ({known.reason})")
    return known.logits


def _start(subject: Subject, contender: Contender, evaluation: Evaluation, threads: int) -> None:
    if contender.path is None:
        raise ValueError(f"{contender.name} has no file to run")
    job = Job(
        backend=contender.backend,
        device=contender.device,
        threads=threads,
        variant=contender.variant,
        folder=subject.folder,
        path=contender.path,
        checkpoint=subject.checkpoint,
        images=evaluation.images,
        batch_size=evaluation.batch_size,
    )
    contender.worker = Worker(job)
    with _failures_of(contender):
        contender.opened = contender.worker.open()
        contender.logits = contender.worker.evaluate()


def _time_rounds(
    contenders: Sequence[Contender], settings: CompareSection, listener: Listener
) -> None:
    """Time every contender once a round, in random order, for each batch size."""
    options = BlockOptions(settings.calls, settings.block_s, settings.settle_s)
    order = random.Random(settings.seed)
    alive = [c for c in contenders if c.status == "ok"]
    total, done = len(alive) * settings.rounds * len(settings.batch_sizes), 0
    listener.begin("latency", total)
    for batch_size in settings.batch_sizes:
        for round_number in range(1, settings.rounds + 1):
            for contender in order.sample(alive, len(alive)):
                listener.advance(
                    done, f"batch {batch_size}, round {round_number}/{settings.rounds}"
                )
                _time_one(contender, batch_size, options)
                done += 1
            alive = [c for c in alive if c.status == "ok"]
    listener.end()


def _time_one(contender: Contender, batch_size: int, options: BlockOptions) -> None:
    if contender.worker is None:
        return
    with _failures_of(contender):
        block = contender.worker.time(batch_size, options)
        contender.blocks.setdefault(batch_size, []).append(block)


@contextmanager
def _failures_of(contender: Contender) -> Iterator[None]:
    try:
        yield
    except BenchError as error:
        contender.fail(str(error))


def _to_measurement(
    contender: Contender, evaluation: Evaluation, reference: Floats | None
) -> Measurement:
    opened = contender.opened
    ok = contender.status == "ok"
    return Measurement(
        contender=contender.name,
        backend=contender.backend,
        variant=contender.variant,
        requested_device=contender.device,
        actual_device=opened.device if opened else None,
        runtime=opened.runtime if opened else None,
        status=contender.status,
        reason=contender.reason,
        source_sha256=contender.source_sha256,
        size_bytes=contender.size_bytes,
        threads=opened.threads if opened else None,
        open_s=opened.open_s if opened else None,
        accuracy=_to_accuracy(contender, evaluation, reference),
        timings=tuple(_to_timing(*item) for item in contender.blocks.items()) if ok else (),
    )


def _to_accuracy(
    contender: Contender, evaluation: Evaluation, reference: Floats | None
) -> Accuracy | None:
    if contender.logits is None:
        return None
    top1 = contender.logits.argmax(1)
    agreement = None if reference is None else measure_agreement(reference, contender.logits)
    return Accuracy(
        protocol=evaluation.protocol,
        correct=int((top1 == evaluation.labels).sum()),
        total=len(evaluation.labels),
        top1=tuple(top1.tolist()),
        agreement=agreement,
    )


def _to_timing(batch_size: int, blocks: Sequence[TimedBlock]) -> Timing:
    return Timing(
        batch_size=batch_size,
        first_call_s=blocks[0].first_call_s,
        warmup_calls=sum(block.settle_calls for block in blocks),
        blocks=tuple(
            Block(round=number, samples_s=block.samples_s)
            for number, block in enumerate(blocks, start=1)
        ),
        checked_outputs=len(blocks),
    )

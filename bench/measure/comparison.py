"""Every artifact on every backend and device: the same images, the same clock, in turns."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foldbench.bench.analysis.logits import measure_agreement
from foldbench.bench.backends import Floats
from foldbench.bench.config.schema import CompareSection
from foldbench.bench.errors import BackendError
from foldbench.bench.measure.contenders import (
    REFERENCE,
    Contender,
    Subject,
    contenders_of,
    failures_of,
    original_of,
)
from foldbench.bench.measure.latency import measure_latency
from foldbench.bench.measure.scenarios import measure_scenarios
from foldbench.bench.measure.series import to_timing
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Accuracy, Measurement, Protocol, Row
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job, WorkerProtocol


@dataclass(frozen=True)
class Evaluation:
    """The test split as every contender is given it."""

    protocol: Protocol
    images: Path
    """(N, C, H, W) uint8 as .npy; every view of the split in turn, where there are several."""
    labels: npt.NDArray[np.int64]
    """(N,) int64."""
    batch_size: int


def compare(
    subject: Subject,
    contenders: Sequence[Contender],
    evaluation: Evaluation,
    settings: CompareSection,
    threads: int,
    listener: ProgressListener,
    start_worker: Callable[[Job], WorkerProtocol] = WorkerClient,
) -> tuple[Measurement, ...]:
    """Measure accuracy and latency of every contender; a failure becomes its row's reason.

    What an interrupted comparison had timed is in the contenders, and is not timed again. `hire`
    gives each contender the worker that runs it: a process of its own, unless a test says
    otherwise.
    """
    for size in settings.batch_sizes:
        if size > len(evaluation.labels):
            listener.note(
                f"batch size {size:,}: there are {len(evaluation.labels):,} test images, so each "
                "batch holds some of them more than once"
            )
    with ExitStack() as stack:
        for contender in contenders:
            stack.callback(contender.close)

        def start(contender: Contender) -> None:
            job = describe_job(subject, contender, evaluation, threads, settings.batch_sizes[0])
            _start(contender, job, start_worker)

        _log_rows([c for c in contenders if c.session == 1], evaluation, None)
        reference = _evaluate(subject, contenders, evaluation, start, listener)
        _log_rows(contenders, evaluation, reference)
        measure = measure_scenarios if settings.loadgen.scenarios else measure_latency
        first = max((contender.last_repeat() for contender in contenders), default=1)
        for repeat in range(first, settings.repeat + 1):
            if repeat > first:
                listener.note(f"pausing {settings.pause_s:g} s before repetition {repeat}")
                time.sleep(settings.pause_s)
                _restart(contenders, start)
            measure(contenders, settings, listener, repeat)
        for contender in contenders:
            _take_memory(contender)
    return tuple(_to_measurement(c, evaluation, reference) for c in contenders)


def _evaluate(
    subject: Subject,
    contenders: Sequence[Contender],
    evaluation: Evaluation,
    start: Callable[[Contender], None],
    listener: ProgressListener,
) -> Floats | None:
    """Open every contender and take its logits, one at a time; return the reference's.

    Self-checks are the reference's own network: they take its logits instead of their own.
    """
    runnable = [c for c in contenders if c.status == "ok"]
    listener.begin(f"accuracy on {len(evaluation.labels):,} test images", len(runnable))
    for number, contender in enumerate(runnable):
        listener.advance(number, contender.name)
        start(contender)
        with failures_of(contender):
            if contender.status == "ok" and contender.role == "contender":
                contender.logits = contender.require_worker().evaluate()
            elif contender.status == "ok":
                contender.require_worker().expect(_logits_of(original_of(contender, contenders)))
    listener.end()
    reference = next((c for c in contenders if c.name == REFERENCE), None)
    if reference is None:
        listener.note(f"taking the logits of {REFERENCE}, which agreement is measured against")
        (reference,) = (c for c in contenders_of(subject, "torch", "cpu") if c.name == REFERENCE)
        start(reference)
        with failures_of(reference):
            reference.logits = reference.require_worker().evaluate()
        reference.close()
    if reference.logits is None:
        listener.note(f"no agreement can be given: {REFERENCE} did not run ({reference.reason})")
    return reference.logits


def _restart(contenders: Sequence[Contender], start: Callable[[Contender], None]) -> None:
    """Give every contender a new process: how one lies in memory is part of what varies."""
    for contender in contenders:
        if contender.status == "ok":
            contender.close()
            start(contender)
            with failures_of(contender):
                scored = contender.role == "contender"
                source = contender if scored else original_of(contender, contenders)
                contender.require_worker().expect(_logits_of(source))


def _logits_of(contender: Contender | None) -> Floats:
    if contender is None or contender.logits is None:
        raise BackendError("the reference that it repeats did not run")
    return contender.logits


def describe_job(
    subject: Subject,
    contender: Contender,
    evaluation: Evaluation,
    threads: int,
    first_batch_size: int = 1,
) -> Job:
    """Return what the contender's worker is to open, and on which images."""
    if contender.path is None:
        raise ValueError(f"{contender.name} has no file to run")
    return Job(
        backend=contender.backend,
        device=contender.device,
        threads=1 if contender.role == "one_thread" else threads,
        variant=contender.variant,
        folder=subject.folder,
        path=contender.path,
        checkpoint=subject.checkpoint,
        images=evaluation.images,
        batch_size=evaluation.batch_size,
        first_batch_size=first_batch_size,
    )


def _start(contender: Contender, job: Job, start_worker: Callable[[Job], WorkerProtocol]) -> None:
    """Have a worker of its own open the contender's network."""
    with failures_of(contender):
        contender.worker = start_worker(job)
        contender.opened = contender.worker.open()
        if contender.opened.device.startswith("cuda") and not contender.opened.resident:
            contender.not_resident = "its backend cannot keep input and output on the device"


def _take_memory(contender: Contender) -> None:
    if contender.status == "ok":
        with failures_of(contender):
            contender.peak_memory_bytes = contender.require_worker().memory()


def _log_rows(
    contenders: Sequence[Contender], evaluation: Evaluation, reference: Floats | None
) -> None:
    """Log what is known of each row besides what is timed."""
    for contender in contenders:
        row = _to_measurement(contender, evaluation, reference)
        timed = {"timings": (), "scenarios": (), "tunings": ()}
        contender.log(Row(measurement=row.model_copy(update=timed)))


def _to_measurement(
    contender: Contender, evaluation: Evaluation, reference: Floats | None
) -> Measurement:
    opened = contender.opened
    ok = contender.status == "ok"
    return Measurement(
        contender=contender.name,
        role=contender.role,
        backend=contender.backend,
        variant=contender.variant,
        requested_device=contender.device,
        actual_device=opened.device if opened else None,
        runtime=opened.runtime if opened else None,
        status=contender.status,
        reason=contender.reason,
        source_sha256=contender.source_sha256,
        size_bytes=contender.size_bytes,
        precision=opened.precision if opened else "float32",
        threads=opened.threads if opened else None,
        open_s=opened.open_s if opened else None,
        import_s=opened.import_s if opened else None,
        first_run_s=opened.first_run_s if opened else None,
        libraries=opened.libraries if opened else None,
        peak_memory_bytes=contender.peak_memory_bytes,
        accuracy=_to_accuracy(contender, evaluation, reference),
        timings=tuple(to_timing(contender.times, series) for series in contender.times.blocks),
        not_resident=contender.not_resident if ok else None,
        scenarios=tuple(contender.scenarios),
        tunings=tuple(contender.times.tunings),
    )


def _to_accuracy(
    contender: Contender, evaluation: Evaluation, reference: Floats | None
) -> Accuracy | None:
    if contender.logits is None:
        return None
    count = len(evaluation.labels)
    logits = _mean_of_views(contender.logits, count)
    top1 = logits.argmax(1)
    agreement = None
    if reference is not None:
        agreement = measure_agreement(_mean_of_views(reference, count), logits)
    return Accuracy(
        protocol=evaluation.protocol,
        correct=int((top1 == evaluation.labels).sum()),
        total=count,
        top1=tuple(top1.tolist()),
        agreement=agreement,
    )


def _mean_of_views(logits: Floats, count: int) -> Floats:
    """Return (count, classes): the mean over the views of each image, all images view by view."""
    mean: Floats = logits.reshape(-1, count, logits.shape[1]).mean(0)
    return mean

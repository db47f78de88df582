"""Every artifact on every backend and device: the same images, the same clock, in turns."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.accuracy import measure_agreement
from bench.backends import Floats
from bench.config import CompareSection
from bench.contenders import REFERENCE, Contender, Subject, contenders_of
from bench.errors import BenchError
from bench.progress import Listener
from bench.records import (
    Accuracy,
    Block,
    Measurement,
    Protocol,
    Timing,
)
from bench.timing import BlockOptions
from bench.worker import Job, TimedBlock, Worker, Workman


@dataclass(frozen=True)
class Evaluation:
    """The test split as every contender is given it."""

    protocol: Protocol
    images: Path
    """(N, C, H, W) uint8 as .npy."""
    labels: npt.NDArray[np.int64]
    """(N,) int64."""
    batch_size: int


def compare(
    subject: Subject,
    contenders: Sequence[Contender],
    evaluation: Evaluation,
    settings: CompareSection,
    threads: int,
    listener: Listener,
    hire: Callable[[Job], Workman] = Worker,
) -> tuple[Measurement, ...]:
    """Measure accuracy and latency of every contender; a failure becomes its row's reason.

    `hire` gives each contender the worker that runs it: a process of its own, unless a test says
    otherwise.
    """
    with ExitStack() as stack:
        for contender in contenders:
            stack.callback(contender.close)

        def start(contender: Contender) -> None:
            _start(contender, hire(_describe_job(subject, contender, evaluation, threads)))

        reference = _evaluate(subject, contenders, evaluation, start, listener)
        _time_rounds(contenders, settings, listener)
    return tuple(_to_measurement(c, evaluation, reference) for c in contenders)


def _evaluate(
    subject: Subject,
    contenders: Sequence[Contender],
    evaluation: Evaluation,
    start: Callable[[Contender], None],
    listener: Listener,
) -> Floats | None:
    """Open every contender and take its logits, one at a time; return the reference's."""
    runnable = [c for c in contenders if c.status == "ok"]
    listener.begin(f"accuracy on {len(evaluation.labels):,} test images", len(runnable))
    for number, contender in enumerate(runnable):
        listener.advance(number, contender.name)
        start(contender)
    listener.end()
    reference = next((c for c in contenders if c.name == REFERENCE), None)
    if reference is None:
        listener.note(f"taking the logits of {REFERENCE}, which agreement is measured against")
        (reference,) = (c for c in contenders_of(subject, "torch", "cpu") if c.name == REFERENCE)
        start(reference)
        reference.close()
    if reference.logits is None:
        listener.note(f"no agreement can be given: {REFERENCE} did not run ({reference.reason})")
    return reference.logits


def _describe_job(
    subject: Subject, contender: Contender, evaluation: Evaluation, threads: int
) -> Job:
    if contender.path is None:
        raise ValueError(f"{contender.name} has no file to run")
    return Job(
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


def _start(contender: Contender, worker: Workman) -> None:
    """Have the worker open the contender's network and take its logits."""
    contender.worker = worker
    with _failures_of(contender):
        contender.opened = worker.open()
        contender.logits = worker.evaluate()


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

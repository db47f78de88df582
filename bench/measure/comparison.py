"""Every artifact on every backend and device: the same images, the same clock, in turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.logits import measure_agreement, measure_confidence
from foldbench.bench.backends import Floats
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.errors import BackendError
from foldbench.bench.images.blocks import in_file
from foldbench.bench.machine.environment import usable_cores
from foldbench.bench.measure.calling.processes import Processes
from foldbench.bench.measure.calling.sections import announce_calling, measure_calling
from foldbench.bench.measure.contenders import ContenderSpec, Subject, contenders_of
from foldbench.bench.measure.evaluation import Evaluation
from foldbench.bench.measure.input_check import check_input
from foldbench.bench.measure.latency import measure_latency
from foldbench.bench.measure.running import Contender, Result, StartWorker, failures_of, original_of
from foldbench.bench.measure.scenarios import measure_scenarios
from foldbench.bench.measure.series import to_timing
from foldbench.bench.predict.image_model import find_image_model
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Accuracy, Measurement, Preprocessing, Row
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.workers.client import WorkerClient
from foldbench.bench.workers.protocol import Job, Opened


@dataclass(frozen=True)
class Entry:
    """One network of a comparison: its rows, and the images that they are given."""

    subject: Subject
    contenders: Sequence[Contender]
    evaluation: Evaluation


def compare_together(
    entries: Sequence[Entry],
    settings: CompareSection,
    threads: int,
    listener: ProgressListener,
    start_worker: StartWorker = WorkerClient,
) -> tuple[tuple[Measurement, ...], ...]:
    """Measure accuracy and latency of every contender; a failure becomes its row's reason.

    The contenders of all networks take turns in the same rounds. What an interrupted comparison had
    timed is in the contenders, and is not timed again. Each is run by a process of its own, unless
    `start_worker` says otherwise.
    """
    contenders = [contender for entry in entries for contender in entry.contenders]
    entry_of = {id(c): entry for entry in entries for c in entry.contenders}
    _note_large_batches(entries, settings, listener)
    announce_calling(settings, listener)
    with ExitStack() as stack:
        for contender in contenders:
            stack.callback(contender.close)

        references: list[Floats | None] = []
        for entry in entries:
            _log_rows([c for c in entry.contenders if c.session == 1], entry.evaluation, None)

            def start_here(contender: Contender, entry: Entry = entry) -> None:
                _start(entry, contender, settings, threads, start_worker)

            reference = _evaluate(entry, start_here, listener)
            check_input(
                entry.contenders,
                entry.subject.reference,
                entry.evaluation,
                entry.subject.checkpoint.preprocessing,
                listener,
            )
            _log_rows(entry.contenders, entry.evaluation, reference)
            references.append(reference)

        def load(contender: Contender) -> None:
            job = _describe_job(entry_of[id(contender)], contender, settings, threads)
            contender.load_anew(job, start_worker)

        def restart(chosen: Sequence[Contender]) -> None:
            _restart(chosen, contenders, load)

        first = max((contender.last_repeat() for contender in contenders), default=1)
        for repeat in range(first, settings.repeat + 1):
            if repeat > first:
                listener.note(
                    f"pausing {units.plain(settings.pause_s)} s before repetition {repeat}"
                )
                time.sleep(settings.pause_s)
                restart(contenders)
            if settings.loadgen.scenarios:
                measure_scenarios(contenders, settings, listener, repeat)
            else:
                measure_latency(
                    contenders, settings, listener, repeat, restart=restart, lanes=usable_cores()
                )
        for contender in reversed(contenders):  # in one process, sessions end as they nest
            _take_memory(contender)
            contender.close()
        measure_calling(
            contenders, settings, listener, _Beside(entry_of, settings, threads, start_worker)
        )
    return tuple(
        tuple(_to_measurement(c, entry.evaluation, reference) for c in entry.contenders)
        for entry, reference in zip(entries, references, strict=True)
    )


def _note_large_batches(
    entries: Sequence[Entry], settings: CompareSection, listener: ProgressListener
) -> None:
    images = min(entry.evaluation.count for entry in entries)
    for size in settings.batch_sizes:
        if size > images:
            listener.note(
                f"batch size {units.count(size)}: there are {units.count(images)} test images, so "
                "each batch holds some of them more than once"
            )


def _start(
    entry: Entry,
    contender: Contender,
    settings: CompareSection,
    threads: int,
    start_worker: StartWorker,
) -> None:
    contender.start(_describe_job(entry, contender, settings, threads), start_worker)


def _describe_job(
    entry: Entry, contender: Contender, settings: CompareSection, threads: int
) -> Job:
    first_batch_size = settings.batch_sizes[0]
    return describe_job(entry.subject, contender.spec, entry.evaluation, threads, first_batch_size)


def _evaluate(
    entry: Entry, start: Callable[[Contender], None], listener: ProgressListener
) -> Floats | None:
    """Open every contender and take its logits, one at a time; return the reference's.

    Self-checks are the baseline's own network: they take its logits instead of their own.
    """
    subject, contenders, evaluation = entry.subject, entry.contenders, entry.evaluation
    runnable = [c for c in contenders if c.is_ok]
    listener.begin(f"accuracy on {units.count(evaluation.count)} test images", len(runnable))
    for number, contender in enumerate(runnable):
        listener.advance(number, contender.label)
        start(contender)
        with failures_of(contender):
            if contender.is_ok and contender.spec.role == "contender":
                contender.result.logits = in_file(contender.require_worker().evaluate())
            elif contender.is_ok:
                contender.require_worker().expect(_logits_of(original_of(contender, contenders)))
    listener.end()
    name = subject.reference
    reference = next((c for c in contenders if c.name == name), None)
    if reference is None:
        listener.note(f"taking the logits of {name}, which agreement is measured against")
        specs = contenders_of(subject, subject.original.partition("/")[0], "cpu")
        reference = next((Contender(spec) for spec in specs if spec.name == name), None)
        if reference is None:
            listener.note(f"no agreement can be given: there is no {name}")
            return None
        start(reference)
        with failures_of(reference):
            reference.result.logits = in_file(reference.require_worker().evaluate())
        reference.close()
    if reference.result.logits is None:
        listener.note(f"no agreement can be given: {name} did not run ({reference.result.reason})")
    return reference.result.logits


def _restart(
    chosen: Sequence[Contender],
    contenders: Sequence[Contender],
    load: Callable[[Contender], None],
) -> None:
    """Give the chosen contenders new processes: how one lies in memory is part of what varies.

    They import their runtimes at the same time, as many as there are cores, while nothing is timed.
    Each opens its network alone, as the first ones did: a runtime may time its kernels then.
    """
    alive = [contender for contender in chosen if contender.is_ok]
    for contender in reversed(alive):  # by the thread that opened it
        contender.close()
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(load, alive))
    for contender in alive:
        scored = contender.spec.role == "contender"
        source = contender if scored else original_of(contender, contenders)
        with failures_of(contender):
            contender.open_anew(_logits_of(source))


class _Beside(Processes):
    """Processes beside those of the rounds: of the networks of a comparison's rows."""

    def __init__(
        self,
        entry_of: Mapping[int, Entry],
        settings: CompareSection,
        threads: int,
        start_worker: StartWorker,
    ) -> None:
        super().__init__(start_worker)
        self._entry_of, self._settings, self._threads = entry_of, settings, threads

    def job(self, runner: Contender, row: Contender) -> Job:
        entry, first = self._entry_of[id(row)], min(self._settings.batch_sizes)
        return describe_job(entry.subject, runner.spec, entry.evaluation, self._threads, first)

    def answers(self, row: Contender) -> Floats:
        return _logits_of(row)

    def preprocessing(self, row: Contender) -> Preprocessing:
        return self._entry_of[id(row)].subject.checkpoint.preprocessing

    def image_file(self, row: Contender) -> Path | None:
        run = RunDirectory(self._entry_of[id(row)].subject.folder)
        model = find_image_model(run)
        if model is None or model.artifact_sha256 != row.spec.source_sha256:
            return None
        return run.path / model.path


def _logits_of(contender: Contender | None) -> Floats:
    if contender is None or contender.result.logits is None:
        raise BackendError("the reference that it repeats did not run")
    return contender.result.logits


def describe_job(
    subject: Subject,
    spec: ContenderSpec,
    evaluation: Evaluation,
    threads: int,
    first_batch_size: int = 1,
) -> Job:
    """Return what a contender's worker is to open, and on which images."""
    if spec.path is None:
        raise ValueError(f"{spec.name} has no file to run")
    return Job(
        backend=spec.backend,
        device=spec.device,
        threads=1 if spec.role == "one_thread" else spec.threads or threads,
        variant=spec.variant,
        folder=subject.folder,
        path=spec.path,
        images=evaluation.images,
        mean=subject.checkpoint.preprocessing.mean,
        std=subject.checkpoint.preprocessing.std,
        classes=len(subject.checkpoint.classes),
        batch_size=evaluation.batch_size,
        first_batch_size=first_batch_size,
        python=spec.python,
        fixed_batch=spec.fixed_batch,
    )


def _take_memory(contender: Contender) -> None:
    if contender.is_ok:
        with failures_of(contender):
            contender.result.peak_memory_bytes = contender.require_worker().memory()


def _log_rows(
    contenders: Sequence[Contender], evaluation: Evaluation, reference: Floats | None
) -> None:
    """Log what is known of each row besides what is timed."""
    for contender in contenders:
        row = _to_measurement(contender, evaluation, reference)
        timed = {"timings": (), "scenarios": (), "tunings": (), "as_called": None}
        contender.log(Row(measurement=row.model_copy(update=timed)))


def _to_measurement(
    contender: Contender, evaluation: Evaluation, reference: Floats | None
) -> Measurement:
    spec, result = contender.spec, contender.result
    return Measurement(
        contender=spec.name,
        role=spec.role,
        backend=spec.backend,
        variant=spec.variant,
        requested_device=spec.device,
        status=result.status,
        reason=result.reason,
        source_sha256=spec.source_sha256,
        size_bytes=spec.size_bytes,
        peak_memory_bytes=result.peak_memory_bytes,
        accuracy=_to_accuracy(result, evaluation, reference),
        timings=tuple(to_timing(result.times, series) for series in result.times.blocks),
        not_resident=result.not_resident if contender.is_ok else None,
        scenarios=tuple(result.scenarios),
        as_called=result.as_called,
        tunings=tuple(result.times.tunings),
        **(_describe_opened(result.opened) if result.opened else {}),
    )


def _describe_opened(opened: Opened) -> dict[str, Any]:
    """Return the fields of a Measurement that its worker knows."""
    facts = vars(opened).copy()
    for name in ("resident", "second_run_s", "preloaded"):
        del facts[name]
    return {"actual_device": facts.pop("device"), **facts}


def _to_accuracy(
    result: Result, evaluation: Evaluation, reference: Floats | None
) -> Accuracy | None:
    if result.logits is None:
        return None
    count, labels = evaluation.count, evaluation.labels
    logits = _mean_of_views(result.logits, count)
    top1 = logits.argmax(1)
    agreement = None
    if reference is not None:
        agreement = measure_agreement(_mean_of_views(reference, count), logits)
    return Accuracy(
        protocol=evaluation.protocol,
        correct=None if labels is None else int((top1 == labels).sum()),
        total=count,
        top1=tuple(top1.tolist()),
        agreement=agreement,
        mean_confidence=measure_confidence(logits),
        input_probes=result.input_probes,
    )


def _mean_of_views(logits: Floats, count: int) -> Floats:
    """Return (count, classes): the mean over the views of each image, all images view by view."""
    mean: Floats = logits.reshape(-1, count, logits.shape[1]).mean(0)
    return mean

"""Rows of a report as plain data: statistics of a run, unrounded, without words or layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from foldbench.bench.analysis.clean import (
    block_medians,
    clean_blocks,
    count_clean_rounds,
    count_rounds,
)
from foldbench.bench.analysis.speedups import contenders, measure_speedup, scored
from foldbench.bench.analysis.statistics import Verdict, median, percentile, wilson_interval
from foldbench.bench.records import (
    Artifact,
    Boundary,
    Measurement,
    ParityCase,
    Run,
    StopReason,
    Timing,
)
from foldbench.reports.rows.homework import reference_for


@dataclass(frozen=True)
class AccuracyRow:
    """What one contender got right, and how it agrees with the reference contender.

    One that failed has no numbers, even where it failed after its accuracy was taken.
    """

    contender: str
    status: str
    reason: str | None
    requested_device: str
    actual_device: str | None
    runtime: str | None
    precision: str
    threads: int | None
    size_bytes: int | None
    open_s: float | None
    correct: int | None = None
    total: int | None = None
    accuracy: float | None = None
    low: float | None = None
    """Lower end of the Wilson 95 % interval."""
    high: float | None = None
    homework_accuracy: float | None = None
    homework_difference: float | None = None
    """Accuracy minus the homework's, shares of 1."""
    agreement_images: int | None = None
    agreement_top1_equal: int | None = None
    max_abs_difference: float | None = None
    max_rel_difference: float | None = None
    random_weights: bool = False
    """The network was not trained: it has an agreement and no accuracy."""


@dataclass(frozen=True)
class LatencyRow:
    """How long one contender takes at one batch size; no batch size where it did not run."""

    contender: str
    status: str
    reason: str | None
    batch_size: int | None = None
    calls: int | None = None
    """All that were timed, those of dirty rounds included."""
    rounds: int | None = None
    clean_rounds: int | None = None
    """Rounds in which neither it nor its reference was disturbed; of its own without one."""
    stopped: StopReason | None = None
    steady: bool | None = None
    """Whether the times had settled before the first round."""
    warmup_calls: int | None = None
    checked_outputs: int | None = None
    first_call_s: float | None = None
    median_s: float | None = None
    """Median of the medians of its clean blocks; of all blocks where none is clean."""
    p95_s: float | None = None
    """Of all calls of the same blocks."""
    images_per_s: float | None = None
    """Batch size divided by the median."""
    speedup_reference: str | None = None
    """The contender that the speed-up is against: on the same device, at the same batch size."""
    speedup_ratio: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    speedup_floor_ratio: float | None = None
    """In place of the ratio on a loaded machine: of the 5 % quantiles of all calls."""
    verdict: Verdict | None = None
    noise_floor: float | None = None
    """How far the reference's speed-up over itself was from 1."""
    speedup_repeats: tuple[float, ...] = ()
    """The ratio of each repetition, where there were several."""
    boundary: Boundary = "host"


@dataclass(frozen=True)
class ExportRow:
    """What folding and exporting did to one artifact."""

    variant: str
    precision: str
    path: str
    sha256: str
    size_bytes: int
    opset: int
    exporter: str
    node_count: int
    export_s: float
    batchnorms_before: int
    batchnorms_after: int
    batchnorm_nodes: int
    folded_by: tuple[str, ...]
    fold_images: int | None
    fold_top1_equal: int | None
    fold_max_abs_difference: float | None
    fold_max_rel_difference: float | None
    parity_passed: bool
    parity_reason: str | None
    parity_error: float | None
    """Of the case that comes closest to its tolerance, or exceeds it most."""
    parity_tolerance: float | None
    parity_torch_error: float | None


@dataclass(frozen=True)
class HistoryRow:
    """One epoch of training beside the homework's."""

    epoch: int
    loss: float
    homework_loss: float | None
    accuracy: float
    validation_accuracy: float | None
    learning_rate: float
    duration_s: float
    images_per_s: float


def accuracy_rows(run: Run) -> tuple[AccuracyRow, ...]:
    """Return one row per contender, the ones that did not run included."""
    return tuple(_accuracy_row(run, m) for m in contenders(run))


def scored_rows(run: Run) -> tuple[AccuracyRow, ...]:
    """Return the rows with an accuracy; the first stands for the run."""
    return tuple(_accuracy_row(run, m) for m in scored(run))


def _accuracy_row(run: Run, m: Measurement) -> AccuracyRow:
    reference = reference_for(run.checkpoint)
    numbers: dict[str, float | int | None] = {}
    if m.status == "ok" and m.accuracy is not None and m.accuracy.total > 0:
        if not run.checkpoint.random_weights:
            share = m.accuracy.correct / m.accuracy.total
            low, high = wilson_interval(m.accuracy.correct, m.accuracy.total)
            numbers = {
                "correct": m.accuracy.correct,
                "total": m.accuracy.total,
                "accuracy": share,
                "low": low,
                "high": high,
                "homework_accuracy": reference.accuracy if reference else None,
                "homework_difference": share - reference.accuracy if reference else None,
            }
        if m.accuracy.agreement is not None:
            numbers |= {
                "agreement_images": m.accuracy.agreement.images,
                "agreement_top1_equal": m.accuracy.agreement.top1_equal,
                "max_abs_difference": m.accuracy.agreement.max_abs_difference,
                "max_rel_difference": m.accuracy.agreement.max_rel_difference,
            }
    return AccuracyRow(
        contender=m.contender,
        status=m.status,
        reason=m.reason,
        requested_device=m.requested_device,
        actual_device=m.actual_device,
        runtime=m.runtime,
        precision=m.precision,
        threads=m.threads,
        size_bytes=m.size_bytes,
        open_s=m.open_s,
        random_weights=run.checkpoint.random_weights,
        **numbers,  # type: ignore[arg-type]
    )


def latency_rows(run: Run) -> tuple[LatencyRow, ...]:
    """Return one row per contender, batch size and boundary; a blank one for one without times."""
    return tuple(row for m in contenders(run) for row in _latency_rows(run, m))


def host_rows(run: Run) -> tuple[LatencyRow, ...]:
    """Return the rows from host array to host array, the boundary that every contender has."""
    return tuple(row for row in latency_rows(run) if row.boundary == "host")


def _latency_rows(run: Run, m: Measurement) -> Iterator[LatencyRow]:
    if m.status != "ok" or not m.timings:
        yield LatencyRow(m.contender, m.status, m.reason)
    else:
        for timing in m.timings:
            yield _latency_row(run, m, timing)


def _latency_row(run: Run, m: Measurement, timing: Timing) -> LatencyRow:
    used = [block.samples_s for block in clean_blocks(timing)]
    typical_s = median(block_medians(timing))
    found = measure_speedup(run, m, timing.batch_size, timing.boundary)
    ratio = found.ratio if found else None
    return LatencyRow(
        contender=m.contender,
        status=m.status,
        reason=m.reason,
        batch_size=timing.batch_size,
        calls=len(timing.samples_s()),
        rounds=found.rounds if found else count_rounds(timing),
        clean_rounds=found.clean_rounds if found else count_clean_rounds(timing),
        stopped=timing.stopped,
        steady=timing.steady,
        warmup_calls=timing.warmup_calls,
        checked_outputs=timing.checked_outputs,
        first_call_s=timing.first_call_s,
        median_s=typical_s,
        p95_s=percentile([s for samples in used for s in samples], 0.95),
        images_per_s=timing.batch_size / typical_s if typical_s else None,
        speedup_reference=found.reference if found else None,
        speedup_ratio=ratio.point if ratio else None,
        speedup_low=ratio.low if ratio else None,
        speedup_high=ratio.high if ratio else None,
        speedup_floor_ratio=found.floor_ratio if found else None,
        verdict=found.verdict if found else None,
        noise_floor=found.noise_floor if found else None,
        speedup_repeats=found.repeats if found else (),
        boundary=timing.boundary,
    )


def export_rows(run: Run) -> tuple[ExportRow, ...]:
    """Return one row per artifact."""
    return tuple(_export_row(artifact) for artifact in run.artifacts)


def _export_row(artifact: Artifact) -> ExportRow:
    agreement = artifact.fold.agreement
    worst = max(artifact.parity.cases, key=_share_of_tolerance, default=None)
    return ExportRow(
        variant=artifact.variant,
        precision=artifact.precision,
        path=artifact.path,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        opset=artifact.opset,
        exporter=artifact.exporter,
        node_count=artifact.node_count,
        export_s=artifact.export_s,
        batchnorms_before=artifact.fold.batchnorms_before,
        batchnorms_after=artifact.fold.batchnorms_after,
        batchnorm_nodes=artifact.batchnorm_nodes,
        folded_by=artifact.folded_by,
        fold_images=agreement.images if agreement else None,
        fold_top1_equal=agreement.top1_equal if agreement else None,
        fold_max_abs_difference=agreement.max_abs_difference if agreement else None,
        fold_max_rel_difference=agreement.max_rel_difference if agreement else None,
        parity_passed=artifact.parity.passed,
        parity_reason=artifact.parity.reason,
        parity_error=worst.error if worst else None,
        parity_tolerance=worst.tolerance if worst else None,
        parity_torch_error=worst.torch_error if worst else None,
    )


def _share_of_tolerance(case: ParityCase) -> float:
    return case.error / case.tolerance if case.error is not None and case.tolerance > 0 else inf


def history_rows(run: Run) -> tuple[HistoryRow, ...]:
    """Return one row per epoch trained, with the homework's loss where it may stand beside it."""
    reference = reference_for(run.checkpoint)
    losses = dict(enumerate(reference.losses, start=1)) if reference else {}
    return tuple(
        HistoryRow(
            epoch=epoch.epoch,
            loss=epoch.loss,
            homework_loss=losses.get(epoch.epoch),
            accuracy=epoch.accuracy,
            validation_accuracy=epoch.validation_accuracy,
            learning_rate=epoch.learning_rate,
            duration_s=epoch.duration_s,
            images_per_s=epoch.images_per_s,
        )
        for epoch in run.checkpoint.history
    )

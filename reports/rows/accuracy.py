"""What each contender got right, and how it agrees with the reference."""

from dataclasses import dataclass

from foldbench.bench.analysis.estimates import wilson_interval
from foldbench.bench.analysis.speedups import contenders, scored
from foldbench.bench.records import (
    Measurement,
    Run,
)
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.rows.homework import reference_for
from foldbench.reports.rows.published import stored_rows


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
    labelled: bool = True
    """Whether the test images have labels; without them there is an agreement and no accuracy."""
    mean_confidence: float | None = None
    """Mean probability of the predicted class."""
    passes: tuple[str, ...] = ()
    """Passes that changed something in its file."""


def accuracy_rows(run: Run) -> tuple[AccuracyRow, ...]:
    """Return one row per contender, the ones that did not run included."""
    if isinstance(run, PublishedRun):
        return tuple(stored_rows(run, "accuracy", AccuracyRow))
    return tuple(_accuracy_row(run, m) for m in contenders(run))


def scored_rows(run: Run) -> tuple[AccuracyRow, ...]:
    """Return the rows with an accuracy; the first stands for the run."""
    rows = {row.contender: row for row in accuracy_rows(run)}
    return tuple(rows[m.contender] for m in scored(run))


def _accuracy_row(run: Run, m: Measurement) -> AccuracyRow:
    reference = reference_for(run.checkpoint)
    numbers: dict[str, float | int | None] = {}
    if m.status == "ok" and m.accuracy is not None and m.accuracy.total > 0:
        numbers["mean_confidence"] = m.accuracy.mean_confidence
        if m.accuracy.correct is not None and not run.checkpoint.random_weights:
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
        labelled=run.data.labelled,
        passes=_passes_of(run, m),
        **numbers,  # type: ignore[arg-type]
    )


def _passes_of(run: Run, m: Measurement) -> tuple[str, ...]:
    made = next((a for a in run.artifacts if a.sha256 == m.source_sha256), None)
    if made is None or m.status != "ok":
        return ()
    return tuple(one.name for one in made.passes if one.changed and one.name != _ALWAYS)


_ALWAYS = "strip_metadata"
"""Changes nothing that is computed."""

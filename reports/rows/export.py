"""What folding and exporting did to each artifact."""

from dataclasses import dataclass
from math import inf

from foldbench.bench.records import (
    Artifact,
    ParityCase,
    Run,
)
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.rows.published import stored_rows


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


def export_rows(run: Run) -> tuple[ExportRow, ...]:
    """Return one row per artifact."""
    if isinstance(run, PublishedRun):
        return tuple(stored_rows(run, "artifacts", ExportRow))
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

"""The sections about what folding and exporting did."""

from foldbench.bench import units
from foldbench.bench.records import Run
from foldbench.reports.rows.export import ExportRow, export_rows
from foldbench.reports.sections.notes import Notes
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, labelled_rows
from foldbench.reports.text.parity import told_references


def build_folding(column: Column, labelled: Labelled, notes: Notes) -> ReportSection:
    """Return what folding BatchNorm did to each variant."""

    def cells(label: str, run: Run) -> list[list[str]]:
        return [
            [*_folding_cells(row), notes.of(label, "export", row.variant)]
            for row in export_rows(run)
            if row.precision == "float32"
        ]

    columns = (
        column,
        left("variant"),
        right("BatchNorm"),
        right("in .onnx"),
        left("folded by"),
        right("agreement"),
        right("max |Δ logit|"),
        right("relative"),
        left("notes"),
    )
    return ReportSection(
        "BatchNorm folding",
        table=tabulated(columns, labelled_rows(labelled, cells)),
        caption=_folding_caption(labelled),
    )


def _folding_cells(row: ExportRow) -> list[str]:
    return [
        row.variant,
        f"{row.batchnorms_before} → {row.batchnorms_after}",
        units.count(row.batchnorm_nodes),
        " and ".join(row.folded_by),
        units.out_of(row.fold_top1_equal, row.fold_images),
        units.error(row.fold_max_abs_difference),
        units.error(row.fold_max_rel_difference),
    ]


def build_export(column: Column, labelled: Labelled) -> ReportSection:
    """Return what the export made, and whether it passed parity."""

    def cells(_: str, run: Run) -> list[list[str]]:
        return [
            [
                row.variant,
                units.count(row.node_count),
                units.size(row.size_bytes),
                *_parity_cells(row),
                units.seconds(row.export_s),
            ]
            for row in export_rows(run)
        ]

    columns = (
        column,
        left("variant"),
        right("nodes"),
        right("size"),
        left("parity"),
        right("worst error"),
        right("tolerance"),
        right("export s"),
    )
    references = told_references(artifact for _, run in labelled for artifact in run.artifacts)
    return ReportSection(
        "Export to ONNX",
        table=tabulated(columns, labelled_rows(labelled, cells)),
        caption=f"Written by {_exporters(labelled)}. Parity: the file against {references} "
        "on test images, random and extreme inputs; the error is relative to the largest logit.",
    )


def _folding_caption(labelled: Labelled) -> str:
    artifacts = [artifact for _, run in labelled for artifact in run.artifacts]
    if artifacts and all(artifact.parity.of_a_file for artifact in artifacts):
        counted, compared = "nodes of the given file", "file, float32 in onnxruntime"
    else:
        counted, compared = "calls in the module", "module, float32 torch"
    return (
        f"BatchNorm: {counted} before → after; in .onnx: nodes left in the file. "
        f"Agreement and differences: folded against unfolded {compared}, test images."
    )


def _parity_cells(row: ExportRow) -> list[str]:
    if row.precision != "float32":
        return ["", "", ""]
    passed = "passed" if row.parity_passed else "failed"
    return [passed, units.error(row.parity_error), units.error(row.parity_tolerance)]


def _exporters(labelled: Labelled) -> str:
    rows = [row for _, run in labelled for row in export_rows(run)]
    return " and ".join(dict.fromkeys(f"{row.exporter}, opset {row.opset}" for row in rows))

"""The sections of a report that every form shows: what was measured, in tables of text."""

from collections.abc import Sequence

from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.analysis.statistics import wilson_interval
from foldbench.bench.records import Profile, Run
from foldbench.reports.rows.accuracy import AccuracyRow, accuracy_rows
from foldbench.reports.rows.export import ExportRow, export_rows
from foldbench.reports.rows.homework import Reference, reference_for
from foldbench.reports.sections.ablation import build_ablation
from foldbench.reports.sections.answer import build_answer
from foldbench.reports.sections.confusion import build_confusion
from foldbench.reports.sections.details import build_particulars
from foldbench.reports.sections.latency import build_latency
from foldbench.reports.sections.notes import Notes, take_notes
from foldbench.reports.sections.operators import operator_sections
from foldbench.reports.sections.provenance import build_provenance
from foldbench.reports.sections.quantization import build_quantization
from foldbench.reports.sections.roofline import build_roofline
from foldbench.reports.sections.scenarios import build_scenarios
from foldbench.reports.text import units
from foldbench.reports.text.document import Column, Document, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_runs, labelled_rows


def build(runs: Sequence[Run], profiles: Sequence[Profile] = ()) -> Document:
    """Return the report of `runs`, each of which has a model (or, where those repeat, a run) name.

    `profiles` say where the time of the runs that they name goes. Raises ValueError when there are
    no runs.
    """
    column, labelled = label_runs(runs)
    return compose(column, labelled, take_notes(labelled), profiles)


def compose(
    column: Column, labelled: Labelled, notes: Notes, profiles: Sequence[Profile] = ()
) -> Document:
    """Return the report of runs that have their names and notes."""
    sections = (
        _accuracy(column, labelled, notes),
        _agreement(column, labelled, notes),
        *build_latency(column, labelled, notes),
        build_ablation(column, labelled),
        *build_scenarios(column, labelled, notes),
        *build_roofline(column, labelled),
        _folding(column, labelled, notes),
        _export(column, labelled),
        build_quantization(column, labelled, notes),
        _not_run(column, labelled),
        ReportSection("Notes", notes=notes.texts, key="notes"),
        *build_confusion(column, labelled),
        *build_particulars(column, labelled),
        *operator_sections(labelled, profiles),
        *build_provenance(labelled),
    )
    shown = tuple(s for s in sections if _has_content(s))
    return Document(_title(labelled), shown, build_answer(labelled))


def _has_content(section: ReportSection) -> bool:
    return bool(section.table or section.pairs or section.notes or section.commands)


def _title(labelled: Labelled) -> str:
    if len(labelled) > 1:
        return f"{len(labelled)} networks: {', '.join(label for label, _ in labelled)}"
    label, run = labelled[0]
    parameters = units.count(run.checkpoint.parameter_count)
    return f"{label} ({parameters} parameters) on {run.checkpoint.data.title}"


def _accuracy(column: Column, labelled: Labelled, notes: Notes) -> ReportSection:
    def cells(label: str, run: Run) -> list[list[str]]:
        return [
            [
                *_accuracy_cells(row),
                notes.of(label, "accuracy", row.contender),
            ]
            for row in accuracy_rows(run)
        ]

    columns = (
        column,
        left("contender"),
        left("ran on"),
        right("accuracy %"),
        right("95 % interval"),
        right("homework %"),
        right("difference"),
        left("notes"),
    )
    return ReportSection(
        "Accuracy",
        table=tabulated(columns, labelled_rows(labelled, cells)),
        caption=_accuracy_caption(labelled),
        key="accuracy",
    )


def _accuracy_cells(row: AccuracyRow) -> list[str]:
    return [
        row.contender,
        row.actual_device or "",
        _accuracy_text(row),
        units.span(units.percent(row.low), units.percent(row.high)),
        units.percent(row.homework_accuracy),
        units.points(row.homework_difference),
    ]


def _accuracy_text(row: AccuracyRow) -> str:
    if row.status != "ok":
        return row.status
    return "random weights" if row.random_weights else units.percent(row.accuracy)


def _accuracy_caption(labelled: Labelled) -> str:
    text = "Top-1 on the test split; the interval is Wilson's."
    if any(run.config.get("evaluate", {}).get("mirror") for _, run in labelled):
        text += (
            " With evaluate.mirror, logits are averaged with those of the mirror image: two runs "
            "of the network for one answer."
        )
    spans = [
        f"{units.percent(known.accuracy)} ({_homework_span(known)})"
        for known in (reference_for(run.checkpoint) for _, run in labelled)
        if known is not None
    ]
    if not spans:
        return text
    return (
        f"{text} The difference is in percentage points, ours minus the homework's. The homework's "
        f"figure is one training run with an interval too: {', '.join(dict.fromkeys(spans))}."
    )


def _homework_span(known: Reference) -> str:
    correct = round(known.accuracy * known.test_images)
    low, high = wilson_interval(correct, known.test_images)
    return units.span(units.percent(low), units.percent(high))


def _agreement(column: Column, labelled: Labelled, notes: Notes) -> ReportSection:
    def cells(label: str, run: Run) -> list[list[str]]:
        return [
            [
                row.contender,
                _of(row.agreement_top1_equal, row.agreement_images)
                if row.status == "ok"
                else row.status,
                units.error(row.max_abs_difference),
                units.error(row.max_rel_difference),
                units.size(row.size_bytes),
                notes.of(label, "agreement", row.contender),
            ]
            for row in accuracy_rows(run)
        ]

    columns = (
        column,
        left("contender"),
        right("agreement"),
        right("max |Δ logit|"),
        right("relative"),
        right("file size"),
        left("notes"),
    )
    references_named = ", ".join(sorted({run.reference for _, run in labelled}))
    return ReportSection(
        f"Agreement with {references_named}",
        table=tabulated(columns, labelled_rows(labelled, cells)),
        caption="Agreement: test images with the same predicted class. Relative: the largest "
        "difference of two logits, divided by the largest logit of the reference.",
        key="agreement",
    )


def _folding(column: Column, labelled: Labelled, notes: Notes) -> ReportSection:
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
        caption="BatchNorm: calls in the module before → after; in .onnx: nodes left in the file. "
        "Agreement and differences: folded against unfolded module, float32 torch, test images.",
    )


def _folding_cells(row: ExportRow) -> list[str]:
    return [
        row.variant,
        f"{row.batchnorms_before} → {row.batchnorms_after}",
        units.count(row.batchnorm_nodes),
        " and ".join(row.folded_by),
        _of(row.fold_top1_equal, row.fold_images),
        units.error(row.fold_max_abs_difference),
        units.error(row.fold_max_rel_difference),
    ]


def _export(column: Column, labelled: Labelled) -> ReportSection:
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
    return ReportSection(
        "Export to ONNX",
        table=tabulated(columns, labelled_rows(labelled, cells)),
        caption=f"Written by {_exporters(labelled)}. Parity: the file against float64 torch "
        "on test images, random and extreme inputs; the error is relative to the largest logit.",
    )


def _parity_cells(row: ExportRow) -> list[str]:
    if row.precision != "float32":
        return ["", "", ""]
    passed = "passed" if row.parity_passed else "failed"
    return [passed, units.error(row.parity_error), units.error(row.parity_tolerance)]


def _exporters(labelled: Labelled) -> str:
    rows = [row for _, run in labelled for row in export_rows(run)]
    return " and ".join(dict.fromkeys(f"{row.exporter}, opset {row.opset}" for row in rows))


def _not_run(column: Column, labelled: Labelled) -> ReportSection:
    def cells(_: str, run: Run) -> list[list[str]]:
        return [
            [m.contender, m.requested_device, m.status, m.reason or "no reason was recorded"]
            for m in contenders(run)
            if m.status != "ok"
        ]

    columns = (column, left("contender"), left("asked for"), left("status"), left("reason"))
    return ReportSection("Did not run", table=tabulated(columns, labelled_rows(labelled, cells)))


def _of(part: int | None, whole: int | None) -> str:
    return "" if part is None or whole is None else f"{units.count(part)}/{units.count(whole)}"

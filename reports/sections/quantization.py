"""The sections about files in lower precision: what they cost, and which nodes have it."""

from collections.abc import Iterator

from foldbench.bench import units
from foldbench.bench.analysis.estimates import paired_interval
from foldbench.bench.records import Artifact, Closeness, QuantizationReport, Run
from foldbench.reports.sections.notes import Notes
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in, labelled_rows

Made = tuple[Artifact, QuantizationReport]


def build_quantization(column: Column, labelled: Labelled, notes: Notes) -> ReportSection:
    """Return what each file in lower precision costs on training images."""

    def cells(label: str, run: Run) -> Iterator[list[str]]:
        for artifact, report in _made(run):
            yield [*_cells(artifact, report), notes.of(label, "export", artifact.variant)]

    columns = (
        column,
        left("variant"),
        left("made from"),
        right("nodes"),
        left("ranges by"),
        right("tables"),
        right("agreement"),
        right("accuracy before %"),
        right("after %"),
        right("difference"),
        right("95 % interval"),
        right("allowed"),
        left("verdict"),
        left("notes"),
    )
    return ReportSection(
        "Quantization",
        table=tabulated(columns, labelled_rows(labelled, cells)),
        caption="On training images that no range follows from, not on the test split. Nodes: "
        "convolutions and matrix products in lower precision, of all. Tables: chains of "
        "element-wise operators between two int8 tensors that are looked up instead. Differences "
        "are in percentage points.",
    )


def build_choices(column: Column, labelled: Labelled) -> Iterator[ReportSection]:
    """Yield how ranges were found and, where not all are in int8, why each node is or is not."""
    for title, columns, cells, caption in (_TRIALS, _NODES):
        rows = [
            [label_in(labelled, label), artifact.variant, *row]
            for label, run in labelled
            for artifact, report in _made(run)
            for row in cells(report)
        ]
        table = tabulated((column, left("variant"), *columns), rows)
        yield ReportSection(title, table=table, caption=caption if table else "", detail=True)


def _made(run: Run) -> list[Made]:
    return [(a, a.quantization) for a in run.artifacts if a.quantization is not None]


def _cells(artifact: Artifact, report: QuantizationReport) -> list[str]:
    c = report.closeness
    chosen = sum(node.quantized for node in report.nodes)
    return [
        artifact.variant,
        report.source_variant,
        f"{chosen}/{len(report.nodes)}" if report.nodes else "all",
        report.method or "",
        units.count(report.tables) if report.nodes else "",
        units.out_of(c.top1_equal, c.images),
        units.percent(c.correct_before / c.images),
        units.percent(c.correct_after / c.images),
        units.points(_difference(c)),
        _interval(c),
        f"−{units.plain(report.max_drop_points)}",
        "kept" if report.within_budget else "exceeded",
    ]


def _difference(c: Closeness) -> float:
    return (c.correct_after - c.correct_before) / c.images


def _interval(c: Closeness) -> str:
    low, high = paired_interval(
        c.correct_after - c.correct_before, c.images - c.top1_equal, c.images
    )
    return f"{units.points(low)} to {units.points(high)}"


def _trial_cells(report: QuantizationReport) -> list[list[str]]:
    return [
        [
            trial.method,
            *_closeness_cells(trial.closeness),
            "taken" if trial.method == report.method else "",
        ]
        for trial in report.trials
    ]


def _node_cells(report: QuantizationReport) -> list[list[str]]:
    return [
        [
            node.node,
            node.op_type,
            units.count(node.weights),
            *_closeness_cells(alone),
            "int8" if node.quantized else "float32",
            node.reason,
        ]
        for node in report.nodes
        if (alone := node.alone) is not None
    ]


def _closeness_cells(c: Closeness) -> list[str]:
    return [
        units.error(c.kl_nats),
        units.out_of(c.top1_equal, c.images),
        units.points(_difference(c)),
    ]


_CLOSENESS = (right("KL nats"), right("agreement"), right("difference"))
_TRIALS = (
    "Ranges of tensors in int8",
    (left("ranges by"), *_CLOSENESS, left("")),
    _trial_cells,
    "All nodes in int8. KL: mean divergence of the classes' probabilities from those in float32; "
    "the method with the smallest is taken.",
)
_NODES = (
    "Nodes in int8",
    (
        left("node"),
        left("operator"),
        right("weights"),
        *_CLOSENESS,
        left("computed in"),
        left("why"),
    ),
    _node_cells,
    "KL, agreement and difference: this node alone in int8, on the first of the training images.",
)

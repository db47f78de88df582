"""The sections that only a page shows: training history, runtimes, parity cases, layers, hashes."""

from collections.abc import Callable, Iterator

from foldbench.bench import units
from foldbench.bench.analysis.estimates import RESOLUTION, median_or_none
from foldbench.bench.records import Run
from foldbench.reports.rows.latency import latency_rows
from foldbench.reports.sections.provenance import STOPPED
from foldbench.reports.sections.quantization import build_choices
from foldbench.reports.sections.training import build_training
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.parity import told_float32, told_references


def build_particulars(column: Column, labelled: Labelled) -> Iterator[ReportSection]:
    """Yield the sections; `column` heads the names of the runs where there are several."""
    for label, run in labelled:
        yield build_training(f"Training{label_in(labelled, label, before=' of ')}", run)
    before, behind = (_STARTS, _RUNTIMES, _TUNINGS), (_LAYERS, _PASSES, _FILES)
    for title, columns, cells, caption in (*before, _parity_kind(labelled), *behind):
        rows = [[label_in(labelled, label), *row] for label, run in labelled for row in cells(run)]
        table = tabulated((column, *columns), rows)
        yield ReportSection(title, table=table, caption=caption if table else "", detail=True)
    yield from build_choices(column, labelled)


def _start_cells(run: Run) -> list[list[str]]:
    by_name = {m.contender: m for m in run.measurements}
    return [
        [
            row.contender,
            units.count(row.batch_size),
            units.boundary(row.boundary),
            units.seconds(by_name[row.contender].import_s),
            units.seconds(by_name[row.contender].open_s),
            units.seconds(by_name[row.contender].first_run_s),
            units.size(by_name[row.contender].peak_memory_bytes),
            units.milliseconds(row.first_call_s),
            units.count(row.warmup_calls),
            "" if row.steady is None else "yes" if row.steady else "no",
            units.milliseconds(row.median_s) if row.status == "ok" else row.status,
            "" if row.rounds is None else f"{row.clean_rounds}/{row.rounds}",
            units.count(row.calls),
            units.count(row.checked_outputs),
            STOPPED[row.stopped] if row.stopped else "",
        ]
        for row in latency_rows(run)
    ]


def _runtime_cells(run: Run) -> list[list[str]]:
    return [
        [
            m.contender,
            m.actual_device or "",
            m.runtime or "",
            m.precision if m.status == "ok" else m.status,
            units.count(m.threads),
            m.source_sha256 or "",
        ]
        for m in run.measurements
    ]


def _tuning_cells(run: Run) -> list[list[str]]:
    return [
        [
            m.contender,
            units.count(tuning.batch_size),
            tactic.name,
            units.milliseconds(median_or_none(tactic.medians_s)),
            units.milliseconds(min(tactic.medians_s, default=None)),
            "chosen" if tactic.name == tuning.chosen else "",
        ]
        for m in run.measurements
        for tuning in m.tunings
        for tactic in tuning.ways
    ]


def _parity_cells(run: Run) -> list[list[str]]:
    return [
        [
            artifact.variant,
            case.inputs,
            units.count(case.batch_size),
            units.error(case.error),
            units.error(case.torch_error),
            units.error(case.tolerance),
            "passed" if case.passed else "failed",
        ]
        for artifact in run.artifacts
        if artifact.precision == "float32"
        for case in artifact.parity.cases
    ]


def _layer_cells(run: Run) -> list[list[str]]:
    folded = [
        [artifact.variant, fold.batchnorm, f"folded into {fold.layer}"]
        for artifact in run.artifacts
        if artifact.precision == "float32"
        for fold in artifact.fold.folded
    ]
    others = [
        [artifact.variant, other.taken, f"{other.kind}: folded into {other.layer or 'nothing'}"]
        for artifact in run.artifacts
        if artifact.precision == "float32"
        for other in artifact.fold.others
    ]
    left_as_is = [
        [artifact.variant, skip.module, f"left: {skip.reason}"]
        for artifact in run.artifacts
        if artifact.precision == "float32"
        for skip in artifact.fold.skipped
    ]
    return folded + others + left_as_is


def _pass_cells(run: Run) -> list[list[str]]:
    return [
        [artifact.variant, done.name, units.count(done.changed), done.detail]
        for artifact in run.artifacts
        if artifact.precision == "float32"
        for done in artifact.passes
    ]


def _file_cells(run: Run) -> list[list[str]]:
    weights = run.checkpoint
    return [
        [weights.weights, units.size(weights.size_bytes), weights.sha256],
        *([a.path, units.size(a.size_bytes), a.sha256] for a in run.artifacts),
    ]


_SectionKind = tuple[str, tuple[Column, ...], Callable[[Run], list[list[str]]], str]

_STARTS: _SectionKind = (
    "Start-up and timed calls",
    (
        left("contender"),
        right("batch"),
        left("boundary"),
        right("import s"),
        right("open s"),
        right("first run s"),
        right("peak memory"),
        right("first call ms"),
        right("untimed calls"),
        left("converged"),
        right("median ms"),
        right("clean rounds"),
        right("timed calls"),
        right("outputs checked"),
        left("stopped because"),
    ),
    _start_cells,
    "Import: loading the library, in a fresh process; open: loading the file and building the "
    "session after that; first run: the very first call, at the first of the batch sizes, with all "
    "that is compiled or searched for then; first call: when that batch size's turn came. Peak "
    "memory: largest resident set of the contender's process, library and "
    "test images included. Untimed calls: warm-up and settling; converged: whether the times had "
    "settled by then. Clean rounds: in which neither it nor its reference was disturbed, of all. "
    "Outputs checked: results of timed calls that were compared with those of the accuracy pass.",
)
_RUNTIMES: _SectionKind = (
    "Runtimes",
    (
        left("contender"),
        left("ran on"),
        left("runtime"),
        left("precision"),
        right("threads"),
        left("sha256 of what ran"),
    ),
    _runtime_cells,
    "",
)
_TUNINGS: _SectionKind = (
    "Tuned contenders",
    (
        left("contender"),
        right("batch"),
        left("tactic"),
        right("median ms"),
        right("fastest ms"),
        left("choice"),
    ),
    _tuning_cells,
    "Tried in turns before the rounds, untimed there: the median and the fastest of the blocks' "
    "medians. The first tactic is kept unless another is more than "
    f"{units.plain(100 * RESOLUTION)} % faster by both.",
)
_LAYERS: _SectionKind = (
    "BatchNorm by layer",
    (left("variant"), left("module"), left("what became of it")),
    _layer_cells,
    "",
)
_PASSES: _SectionKind = (
    "Export passes",
    (left("variant"), left("pass"), right("places changed"), left("detail")),
    _pass_cells,
    "",
)
_FILES: _SectionKind = ("Files", (left("file"), right("size"), left("sha256")), _file_cells, "")


def _parity_kind(labelled: Labelled) -> _SectionKind:
    artifacts = [artifact for _, run in labelled for artifact in run.artifacts]
    float32 = told_float32(artifacts)
    columns = (
        left("variant"),
        left("inputs"),
        right("batch"),
        right("error"),
        right(f"{float32}'s error"),
        right("tolerance"),
        left("verdict"),
    )
    caption = (
        f"Errors are against {told_references(artifacts)}, relative to its largest logit; "
        f"{float32} has the second one anyway."
    )
    return "Parity cases", columns, _parity_cells, caption

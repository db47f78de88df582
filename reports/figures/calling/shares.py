"""What a whole consists of: a cold start, the memory of a process, the way from file to class."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from foldbench.bench import units
from foldbench.bench.analysis.cold_starts import ColdStartRow, cold_start_rows
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.analysis.stages import StageRow, stage_rows
from foldbench.bench.records import MemoryUse
from foldbench.bench.samples.calling import STAGES
from foldbench.reports.figures.calling.stacks import Stack, StackPart, stack_panel
from foldbench.reports.figures.figure import ReportFigure
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import name_of


def cold_start_figure(labelled: Labelled, series: Mapping[str, SeriesStyle]) -> ReportFigure | None:
    """Return a panel for each run: a bar a contender, from no process to the first answer."""
    found = [
        (label, [_start(row, series) for row in cold_start_rows(run) if row.answer])
        for label, run in labelled
    ]
    return _figure(
        "cold-starts",
        "Time to the first answer",
        _panels(labelled, "cold-starts", "Time to the first answer", found),
        "From left to right: the process starts, the runtime is imported, the network is opened, "
        "the first call is made. Medians of the parts, which need not sum up to the whole's.",
    )


def memory_figure(labelled: Labelled, series: Mapping[str, SeriesStyle]) -> ReportFigure | None:
    """Return a panel for each run: a bar a contender, from import to the largest batch."""
    found = [
        (
            label,
            [
                _memory(m.contender, m.as_called.memory, series)
                for m in contenders(run)
                if m.as_called and m.as_called.memory and m.as_called.memory.points
            ],
        )
        for label, run in labelled
    ]
    return _figure(
        "memory",
        "Memory of a process",
        _panels(labelled, "memory", "Memory of a process", found),
        "From left to right, what each step adds to the resident set: import, opening, warm-up, "
        "then the peak at each batch size.",
    )


def stage_figure(labelled: Labelled, series: Mapping[str, SeriesStyle]) -> ReportFigure | None:
    """Return a panel for each run: a bar a contender, from the file to its class."""
    found = [
        (
            label,
            [_stages(row, series) for m in contenders(run) for row in stage_rows(m) if row.whole_s],
        )
        for label, run in labelled
    ]
    return _figure(
        "stages",
        "From file to class, stage by stage",
        _panels(labelled, "stages", "From file to class", found),
        f"From left to right: {', '.join(STAGES)}. Medians of one image.",
    )


def _figure(
    identity: str, title: str, panels: Sequence[Markup], caption: str
) -> ReportFigure | None:
    if not panels:
        return None
    return ReportFigure(identity, title, tuple(panels), caption, table=None)


def _panels(
    labelled: Labelled, identity: str, what: str, found: Sequence[tuple[str, list[Stack]]]
) -> list[Markup]:
    return [
        stack_panel(f"{identity}-{i}", f"{label_in(labelled, label, after=': ')}{what}", stacks)
        for i, (label, stacks) in enumerate(found)
        if stacks
    ]


def _start(row: ColdStartRow, series: Mapping[str, SeriesStyle]) -> Stack:
    parts = {
        "process": row.process,
        "import": row.imports,
        "opening": row.opening,
        "first call": row.first_call,
    }
    dropped = "page cache dropped" if row.page_cache == "dropped" else ""
    return Stack(
        name=", ".join(filter(None, (name_of(row.contender), row.preparation, dropped))),
        style=series[row.contender],
        parts=tuple(
            StackPart(name, part.median_s, units.duration(part.median_s))
            for name, part in parts.items()
            if part
        ),
        whole=units.duration(row.answer.median_s) if row.answer else "",
    )


def _memory(contender: str, use: MemoryUse, series: Mapping[str, SeriesStyle]) -> Stack:
    steps: list[tuple[str, int | None]] = [
        (p.after, p.rss_bytes) for p in use.points if p.after != "start"
    ]
    peaks = sorted(use.peaks, key=lambda peak: peak.batch_size)
    steps += [(f"batch {units.count(p.batch_size)}", p.peak_bytes) for p in peaks]
    parts: list[StackPart] = []
    held = 0
    for name, value in steps:
        added = max(0, (value or 0) - held)
        parts.append(StackPart(name, added, f"{'+' * bool(parts)}{units.size(added)}"))
        held += added
    return Stack(name_of(contender), series[contender], tuple(parts), units.size(held))


def _stages(row: StageRow, series: Mapping[str, SeriesStyle]) -> Stack:
    return Stack(
        name=f"{name_of(row.contender)}{', preprocessing inside' * row.inside}",
        style=series[row.contender],
        parts=tuple(
            StackPart(name, value_s or 0.0, units.milliseconds(value_s), name == "infer")
            for name, value_s in row.stages_s.items()
        ),
        whole=f"{units.milliseconds(row.whole_s)} ms",
    )

"""The section about the way from an image file to its class."""

from collections.abc import Iterator

from foldbench.bench import units
from foldbench.bench.analysis.estimates import Ratio
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.analysis.stages import StageRow, stage_row
from foldbench.bench.samples.calling import STAGES
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import spoken


def build_file_to_class(column: Column, labelled: Labelled) -> ReportSection:
    """Return the section; it is empty where it was not asked for."""
    found = list(_found(labelled))
    held = [
        (f"{label} {spoken(row.contender)}".strip(), row.before)
        for label, row in found
        if row.before
    ]
    held.sort(key=lambda pair: -pair[1].point)
    told = [(name, _sentence(before)) for name, before in held]
    columns = (
        column,
        left("contender"),
        right("file to class ms"),
        *(right(name) for name in STAGES),
        left("reason"),
    )
    rows = [[label, *_cells(row)] for label, row in found]
    return ReportSection(
        "From file to class",
        table=tabulated(columns, rows),
        caption=_caption(labelled) if rows else "",
        pairs=tuple(told[1:]),
        key="stages",
        lead=": ".join(told[0]) if told else "",
    )


def _found(labelled: Labelled) -> Iterator[tuple[str, StageRow]]:
    for label, run in labelled:
        for m in contenders(run):
            row = stage_row(m)
            if row is not None:
                yield label_in(labelled, label), row


def _caption(labelled: Labelled) -> str:
    series = [
        m.as_called.stages
        for _, run in labelled
        for m in contenders(run)
        if m.as_called and m.as_called.stages
    ]
    told = dict.fromkeys(
        f"{units.count(one.files)} of {units.size(round(one.bytes_mean))}" for one in series
    )
    return (
        f"Medians in milliseconds, one image at a time; files: {', '.join(told)} on average, read "
        "from the page cache. Decoding and resizing are Pillow's, on one thread."
    )


def _cells(row: StageRow) -> list[str]:
    stages = [units.milliseconds(seconds) for seconds in row.stages_s]
    return [row.contender, units.milliseconds(row.whole_s), *stages, row.reason or ""]


def _sentence(ratio: Ratio) -> str:
    point, span = units.estimate(ratio.point, ratio.low, ratio.high)
    interval = f" ({span})" if span else ""
    return f"what comes before the network takes {point} times{interval} as long as the network."

"""The section about the way from an image file to its class."""

from collections.abc import Sequence

from foldbench.bench import units
from foldbench.bench.analysis.estimates import Ratio, Verdict
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.analysis.stages import StageRow, stage_rows
from foldbench.bench.samples.calling import STAGES
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import spoken


def build_file_to_class(column: Column, labelled: Labelled) -> ReportSection:
    """Return the section; it is empty where it was not asked for."""
    found = [
        (label_in(labelled, label), row)
        for label, run in labelled
        for m in contenders(run)
        for row in stage_rows(m)
    ]
    columns = (
        column,
        left("contender"),
        right("file to class ms"),
        *(right(name) for name in STAGES),
        left("reason"),
    )
    told = _sentences(found)
    return ReportSection(
        "From file to class",
        table=tabulated(columns, [[label, *_cells(row)] for label, row in found]),
        caption=_caption(labelled) if found else "",
        pairs=tuple(told[1:]),
        key="stages",
        lead=": ".join(told[0]) if told else "",
    )


def _caption(labelled: Labelled) -> str:
    series = [
        one
        for _, run in labelled
        for m in contenders(run)
        if m.as_called
        for one in m.as_called.stages
    ]
    told = dict.fromkeys(
        f"{units.count(one.files)} of {units.size(round(one.bytes_mean))}" for one in series
    )
    inside = any(one.inside for one in series)
    return (
        f"Medians in milliseconds, one image at a time; files: {', '.join(told)} on average, read "
        "from the page cache. Decoding and resizing are Pillow's, on one thread."
        f"{_INSIDE if inside else ''}"
    )


_INSIDE = (
    " Preprocessing inside: the graph resizes, normalises and has softmax (bench export "
    "--with-preprocess)."
)


def _named(row: StageRow) -> str:
    return f"{row.contender}{', preprocessing inside' * row.inside}"


def _cells(row: StageRow) -> list[str]:
    stages = [units.milliseconds(row.stages_s.get(name)) for name in STAGES]
    return [_named(row), units.milliseconds(row.whole_s), *stages, row.reason or ""]


def _sentences(found: Sequence[tuple[str, StageRow]]) -> list[tuple[str, str]]:
    """Return who spends how much before the network, the most first; then what is gained inside."""
    outside = [
        (row.before, f"{label} {spoken(row.contender)}".strip())
        for label, row in found
        if row.before and not row.inside
    ]
    outside.sort(key=lambda pair: -pair[0].point)
    told = [(name, _before(before)) for before, name in outside]
    for label, row in found:
        if row.gain and row.verdict:
            told.append((f"{label} {spoken(row.contender)}".strip(), _gain(row.gain, row.verdict)))
    return told


def _before(ratio: Ratio) -> str:
    point, span = units.estimate(ratio.point, ratio.low, ratio.high)
    interval = f" ({span})" if span else ""
    return f"what comes before the network takes {point} times{interval} as long as the network."


def _gain(gain: Ratio, verdict: Verdict) -> str:
    if verdict == "no difference resolved":
        return "with the preprocessing inside the graph, file to class takes as long as outside."
    point, span = units.estimate(gain.point, gain.low, gain.high)
    return (
        f"with the preprocessing inside the graph, file to class is {point} times ({span}) as fast."
    )

"""The section about cold starts: from nothing to the first answer, and its parts."""

from collections.abc import Iterator, Sequence

from foldbench.bench import units
from foldbench.bench.analysis.cold_starts import ColdStartRow, Spread, cold_start_rows
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import spoken

_COLUMNS = (
    left("contender"),
    right("first answer s"),
    right("95 % interval"),
    right("× as fast"),
    left("verdict"),
    right("process s"),
    right("import s"),
    right("opening ms"),
    right("first call ms"),
    right("second call ms"),
)
_CAPTION = (
    "First answer: from no process to the first answer; × as fast as the first contender. Medians "
    "over fresh processes, {starts} of each, in turns. The page cache is warm, an earlier start "
    "has read the same files, unless the row says otherwise. Saved graph: onnxruntime opens the "
    "graph that an earlier start has optimized. Compiled anew: torch.compile finds no kernel of an "
    "earlier process."
)


def build_cold_starts(column: Column, labelled: Labelled) -> Iterator[ReportSection]:
    """Yield the section and the intervals of the parts; empty where none was asked for."""
    found = [
        (label_in(labelled, label), r) for label, run in labelled for r in cold_start_rows(run)
    ]
    rows = [[label, *_cells(row)] for label, row in found]
    yield ReportSection(
        "Cold start",
        table=tabulated((column, *_COLUMNS), rows),
        caption=_CAPTION.format(starts=_starts([row for _, row in found])) if rows else "",
        key="cold starts",
        lead=_lead(found),
    )
    columns = (
        column,
        left("contender"),
        left("part"),
        right("median"),
        right("95 % interval"),
    )
    parts = [[label, *cells] for label, row in found for cells in _parts(row)]
    yield ReportSection("Cold start by part", table=tabulated(columns, parts), detail=True)


def _lead(found: Sequence[tuple[str, ColdStartRow]]) -> str:
    """Return who answers first and who last, of the starts with the page cache warm."""
    answered = [
        (row.answer.median_s, f"{label} {spoken(row.contender)}".strip(), row)
        for label, row in found
        if row.answer and row.page_cache == "warm" and not row.preparation
    ]
    if not answered:
        return ""
    first, last = min(answered, key=_seconds), max(answered, key=_seconds)
    told = f"{first[1]} gives its first answer {units.duration(first[0])} after its start"
    if first is last:
        return f"{told}."
    return f"{told}, {last[1]} after {units.duration(last[0])}."


def _seconds(answered: tuple[float, str, ColdStartRow]) -> float:
    return answered[0]


def _cells(row: ColdStartRow) -> list[str]:
    ratio, answer = row.speedup, row.answer
    return [
        _named(row),
        units.seconds(answer.median_s) if answer else "",
        _interval(answer),
        units.estimate(ratio.point, ratio.low, ratio.high)[0] if ratio else "",
        row.reason or units.verdict(row.verdict),
        *(units.seconds(part.median_s) if part else "" for part in (row.process, row.imports)),
        *(
            units.milliseconds(part.median_s) if part else ""
            for part in (row.opening, row.first_call, row.second_call)
        ),
    ]


def _named(row: ColdStartRow) -> str:
    dropped = "page cache dropped" if row.page_cache == "dropped" else ""
    return ", ".join(filter(None, (row.contender, row.preparation, dropped)))


def _starts(rows: Sequence[ColdStartRow]) -> str:
    """Return how many starts there were, or from where to where."""
    counts = [row.count for row in rows]
    least, most = units.count(min(counts)), units.count(max(counts))
    return most if least == most else f"{least} to {most}"


def _interval(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return units.span(units.seconds(spread.low_s), units.seconds(spread.high_s))


def _parts(row: ColdStartRow) -> Iterator[list[str]]:
    parts = {
        "process": row.process,
        "import": row.imports,
        "opening": row.opening,
        "first call": row.first_call,
        "second call": row.second_call,
    }
    for name, part in parts.items():
        if part is not None:
            low, high = units.duration(part.low_s), units.duration(part.high_s)
            cells = [units.duration(part.median_s), units.span(low, high)]
            yield [_named(row), name, *cells]

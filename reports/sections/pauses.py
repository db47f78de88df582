"""The section about calls after pauses: what each does, and which switch undoes it."""

from collections.abc import Iterator

from foldbench.bench import units
from foldbench.bench.analysis.pauses import PauseFinding, PauseRow, pause_findings, pause_rows
from foldbench.bench.analysis.speedups import contenders
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in

_CAPTION = (
    "Median of a call, and how many times as long as after the first pause, in the same rounds and "
    "the same process, where the whole interval is above or below 1."
)


def build_pauses(column: Column, labelled: Labelled) -> Iterator[ReportSection]:
    """Yield the section and its particulars; they are empty where no pauses were asked for."""
    found = [
        (label_in(labelled, label), row)
        for label, run in labelled
        for m in contenders(run)
        for row in pause_rows(m)
    ]
    pauses_s = sorted({row.pause_s for _, row in found})
    by_name: dict[tuple[str, str], dict[float, str]] = {}
    for label, row in found:
        if not row.switch:
            by_name.setdefault((label, row.contender), {})[row.pause_s] = _cell(row)
    columns = (column, left("contender"), *(right(f"after {pause(p)}") for p in pauses_s))
    rows = [[*name, *(cells.get(p, "") for p in pauses_s)] for name, cells in by_name.items()]
    yield ReportSection(
        "After a pause",
        table=tabulated(columns, rows),
        caption=_CAPTION if rows else "",
        pairs=tuple(_sentences(labelled)),
        key="pauses",
    )
    columns = (
        column,
        left("contender"),
        right("pause"),
        right("calls"),
        right("median ms"),
        right("p95 ms"),
        right("× as long"),
        right("95 % interval"),
        left("verdict"),
        right("cores while waiting"),
        right("context switches"),
        right("page faults"),
        right("CPU MHz"),
    )
    yield ReportSection(
        "After a pause, by switch",
        table=tabulated(columns, [[label, *_particulars(row)] for label, row in found]),
        caption=_PARTICULARS if found else "",
        detail=True,
    )


_PARTICULARS = (
    "Cores while waiting: CPU time of all threads in the pause, as a share of it. Kept warm: an "
    "untimed call every 10 ms of the pause. Context switches and page faults are means of a call. "
    "p95 takes 200 calls."
)


def _cell(row: PauseRow) -> str:
    if row.reason:
        return "failed"
    ratio, _ = _multiple(row)
    resolved = row.verdict in ("faster", "slower")
    return f"{units.milliseconds(row.median_s)} ms{f' ×{ratio}' if resolved else ''}"


def _particulars(row: PauseRow) -> list[str]:
    ratio, span = _multiple(row)
    return [
        named(row),
        pause(row.pause_s),
        units.count(row.calls),
        units.milliseconds(row.median_s),
        units.milliseconds(row.p95_s),
        ratio,
        span,
        row.reason or units.verdict(row.verdict),
        units.seconds(row.idle_cores),
        units.seconds(row.switches),
        units.seconds(row.faults),
        units.whole(row.mhz),
    ]


def named(row: PauseRow) -> str:
    """Return the contender, with what was switched."""
    return f"{row.contender}, {row.switch}" if row.switch else row.contender


def pause(value_s: float) -> str:
    """Return a pause as text; ``none`` for 0, back to back."""
    if not value_s:
        return "no pause"
    return units.pause(value_s)


def _multiple(row: PauseRow) -> tuple[str, str]:
    if row.multiple is None:
        return "", ""
    return units.estimate(row.multiple.point, row.multiple.low, row.multiple.high)


def _sentences(labelled: Labelled) -> Iterator[tuple[str, str]]:
    for label, run in labelled:
        for m in contenders(run):
            for finding in pause_findings(m):
                name = label_in(labelled, label)
                yield f"{name} {m.contender}".strip(), _sentence(finding)


def _sentence(finding: PauseFinding) -> str:
    worst, remedy = finding.worst, finding.remedy
    ratio, span = _multiple(worst)
    told = f"after {pause(worst.pause_s)} of idling a call takes {ratio} times as long ({span})"
    if remedy is None or finding.remedy_ratio is None:
        return f"{told}; no switch that was tried makes it faster"
    gain = finding.remedy_ratio
    less, its_span = units.estimate(gain.point, gain.low, gain.high)
    how = {"kept warm": "kept warm", "one thread": "with one thread"}.get(
        remedy.switch, "without spin-wait"
    )
    cost = (
        f", at {units.seconds(remedy.idle_cores)} cores while it waits"
        if remedy.idle_cores is not None
        else ""
    )
    return (
        f"{told}, {units.milliseconds(worst.median_s)} ms; {how} it is {less} times as fast "
        f"({its_span}), {units.milliseconds(remedy.median_s)} ms{cost}"
    )

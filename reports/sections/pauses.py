"""The section about calls after pauses: what each does, and which switch undoes it."""

from collections.abc import Iterator

from foldbench.bench import units
from foldbench.bench.analysis.pauses import (
    PauseFinding,
    PauseRow,
    pause_finding,
    pause_rows,
)
from foldbench.bench.analysis.speedups import contenders
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import spoken

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
    columns = (column, left("contender"), *(right(_after(p)) for p in pauses_s))
    rows = [[*name, *(cells.get(p, "") for p in pauses_s)] for name, cells in by_name.items()]
    can_tell = any(row.verdict for _, row in found)
    first, *more = _sentences(labelled) or [("", _NONE if can_tell else _TOO_FEW)]
    yield ReportSection(
        "After a pause",
        table=tabulated(columns, rows),
        caption=_CAPTION if rows else "",
        pairs=tuple(more),
        key="pauses",
        lead=": ".join(filter(None, first)) if rows else "",
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
        right("CPU MHz after the pause"),
        right("and after the call"),
    )
    yield ReportSection(
        "After a pause, by switch",
        table=tabulated(columns, [[label, *_particulars(row)] for label, row in found]),
        caption=_PARTICULARS if found else "",
        detail=True,
    )


_TOO_FEW = "Too few clean rounds to tell what a pause does: raise --budget."
_NONE = "No pause that was tried makes a call longer beyond the interval."
_PARTICULARS = (
    "× as long: as after the first pause; with a switch, as without it after the same pause. Cores "
    "while waiting: CPU time of all threads in the pause, as a share of it. Kept warm: an untimed "
    "call every 10 ms of the pause. Cold caches: at its end they are filled with something else, a "
    "control. Context switches and page faults are means of a call. CPU MHz: of the fastest CPU, "
    "after a pause of at most 100 ms. p95 takes 200 calls."
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
        *(units.whole(mhz) for mhz in row.mhz or (None, None)),
    ]


def named(row: PauseRow) -> str:
    """Return the contender, with what was switched."""
    return f"{row.contender}, {row.switch}" if row.switch else row.contender


def pause(value_s: float) -> str:
    """Return a pause as text; ``no pause`` for 0, back to back."""
    return units.pause(value_s) if value_s else "no pause"


def _after(pause_s: float) -> str:
    return f"after {pause(pause_s)}" if pause_s else pause(pause_s)


def _multiple(row: PauseRow) -> tuple[str, str]:
    if row.multiple is None:
        return "", ""
    return units.estimate(row.multiple.point, row.multiple.low, row.multiple.high)


def _sentences(labelled: Labelled) -> list[tuple[str, str]]:
    """Return a sentence for each contender that a pause slows, the slowest first."""
    found = [
        (finding, f"{label_in(labelled, label)} {spoken(m.contender)}".strip())
        for label, run in labelled
        for m in contenders(run)
        if (finding := pause_finding(m))
    ]
    found.sort(key=lambda pair: -pair[0].multiple)
    return [(name, _sentence(finding)) for finding, name in found]


def _sentence(finding: PauseFinding) -> str:
    worst, cold = finding.worst, finding.cold_caches
    ratio, span = _multiple(worst)
    told = (
        f"after {pause(worst.pause_s)} of idling a call takes {ratio} times as long ({span}), "
        f"{units.milliseconds(worst.median_s)} ms; {_remedy(finding)}"
    )
    if cold is not None:
        times, _ = units.estimate(cold.point, cold.low, cold.high)
        told += f"; cold caches alone make a call {times} times as long"
    return f"{told}."


def _remedy(finding: PauseFinding) -> str:
    remedy, gain = finding.remedy, finding.remedy_ratio
    if not finding.is_remedy_known:
        return "too few rounds to tell what makes it faster: raise --budget"
    if remedy is None or gain is None:
        return "no switch that was tried makes it faster"
    less, span = units.estimate(gain.point, gain.low, gain.high)
    how = {"kept warm": "kept warm", "one thread": "with one thread"}.get(
        remedy.switch, "without spin-wait"
    )
    told = f"{how} it is {less} times as fast ({span}), {units.milliseconds(remedy.median_s)} ms"
    if remedy.idle_cores is None:
        return told
    return f"{told}, at {units.seconds(remedy.idle_cores)} cores while it waits"

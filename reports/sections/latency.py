"""The sections about time: latency and speed-ups, and their repetitions."""

from collections.abc import Iterator, Sequence

from foldbench.bench import units
from foldbench.bench.analysis.clean import DIRTY_RUN_DELAY
from foldbench.bench.analysis.estimates import MIN_PROCESSES, RESOLUTION
from foldbench.bench.records import Boundary, Run
from foldbench.bench.samples.ratios import MIN_REPETITIONS
from foldbench.reports.rows.latency import LatencyRow, latency_rows
from foldbench.reports.rows.scenarios import scenarios_of
from foldbench.reports.sections.notes import Notes
from foldbench.reports.sections.self_checks import build_self_checks
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, labelled_rows, told_baselines


def build_latency(column: Column, labelled: Labelled, notes: Notes) -> Iterator[ReportSection]:
    """Yield the sections; `column` heads the names of the runs where there are several."""
    yield _latency(column, labelled, notes, "host")
    yield _latency(column, labelled, notes, "device")
    yield _repeats(column, labelled)
    yield build_self_checks(column, labelled, notes)


def _latency(column: Column, labelled: Labelled, notes: Notes, boundary: Boundary) -> ReportSection:
    def cells(label: str, run: Run) -> list[list[str]]:
        rows = () if scenarios_of(run) else latency_rows(run)
        return [
            [
                *_latency_cells(row),
                notes.of(label, "latency", row.contender, row.batch_size, row.boundary),
            ]
            for row in rows
            if row.boundary == boundary
        ]

    columns = (
        column,
        left("contender"),
        right("batch"),
        right("median ms"),
        right("p95 ms"),
        right("images/s"),
        right("speed-up"),
        right("95 % interval"),
        right("from"),
        left("verdict"),
        left("notes"),
    )
    table = tabulated(columns, labelled_rows(labelled, cells))
    if boundary == "device":
        return ReportSection(
            "GPU compute latency (device-resident)",
            table=table,
            caption=_RESIDENT if table else "",
        )
    return ReportSection(
        "End-to-end latency (host to host)",
        table=table,
        caption=_latency_caption(labelled),
        key="latency",
    )


_RESIDENT = (
    "The same contenders and statistics in rounds of their own, for what runs on a GPU: the input "
    "lies in its memory before the clock starts, the output stays there, and the clock stops when "
    "the GPU is done. The difference to the end-to-end latency is the transfers."
)


def _latency_cells(row: LatencyRow) -> list[str]:
    ratio, span = units.estimate(row.speedup_ratio, row.speedup_low, row.speedup_high)
    return [
        row.contender,
        units.count(row.batch_size),
        units.milliseconds(row.median_s) if row.status == "ok" else row.status,
        units.milliseconds(row.p95_s),
        units.rate(row.images_per_s),
        ratio or units.best_case_ratio(row.speedup_floor_ratio),
        span,
        _from(row),
        units.verdict(row.verdict, row.is_claimed),
    ]


def _from(row: LatencyRow) -> str:
    """Return the rounds and processes that an interval is from."""
    if row.interval_rounds is None:
        return ""
    return f"{units.count(row.interval_rounds)} in {units.count(row.interval_processes)}"


def _latency_caption(labelled: Labelled) -> str:
    rows = [row for _, run in labelled for row in latency_rows(run)]
    text = (
        "Only clean rounds count: those in which threads waited for a CPU for "
        f"{units.plain(100 * DIRTY_RUN_DELAY)} % of the time or more are left out. Median: of "
        "the rounds' "
        "medians; p95: of all calls; images/s: the batch divided by the median."
    )
    if any(row.speedup_ratio is not None for row in rows):
        text += (
            f" Speed-up: how many times faster than {told_baselines(labelled)} on the same device. "
            f"From: the rounds and the processes that its interval is from.{_estimators(rows)} "
            "Verdict: faster or slower when it differs by more than "
            f"{units.plain(100 * RESOLUTION)} % and "
            "the whole interval lies further from 1 than the reference's A/A difference."
        )
    if any(row.verdict in ("faster", "slower") and not row.is_claimed for row in rows):
        text += (
            " (unadjusted): many rows are many claims, and by Holm's method at 5 % over the "
            "comparison this one would not be made."
        )
    if any(row.speedup_floor_ratio is not None for row in rows):
        text += (
            " (best case): too few clean rounds for a speed-up; the ratio of the 5 % quantiles of "
            "all calls, which has no interval and no verdict."
        )
    return text


def _estimators(rows: Sequence[LatencyRow]) -> str:
    counts = [row.interval_processes for row in rows if row.interval_processes is not None]
    text = ""
    if any(count >= MIN_PROCESSES for count in counts):
        text += (
            f" With {MIN_PROCESSES} processes or more: the geometric mean over processes of the "
            "median ratio of each one's rounds, and Student's t between processes, or between "
            f"repetitions from {MIN_REPETITIONS} on.{_between_comparisons(rows)}"
        )
    if any(count < MIN_PROCESSES for count in counts):
        text += (
            f" With fewer than {MIN_PROCESSES} processes: the median of the rounds' ratios and a "
            "bootstrap over rounds, which does not cover what differs between processes of the "
            "same network."
        )
    return text


def _between_comparisons(rows: Sequence[LatencyRow]) -> str:
    """Return what the intervals add for a machine that changes between comparisons."""
    found = [
        (row.interval_between_sd, row.interval_comparisons)
        for row in rows
        if row.interval_between_sd and row.interval_comparisons
    ]
    if not found:
        return ""
    sds = [units.percent(sd) for sd, _ in sorted(found)]
    most = max(count for _, count in found)
    source = (
        "assumed on a virtual machine until it is compared again"
        if most == 1
        else f"from {units.count(most)} comparisons"
    )
    told = sds[0] if sds[0] == sds[-1] else units.span(sds[0], sds[-1])
    return (
        " It covers what comparisons of the run differ by, too: "
        f"{told} % (standard deviation, {source})."
    )


def _repeats(column: Column, labelled: Labelled) -> ReportSection:
    def cells(_: str, run: Run) -> list[list[str]]:
        return [
            [
                row.contender,
                units.count(row.batch_size),
                units.boundary(row.boundary),
                units.span(
                    units.ratio(min(row.speedup_repeats)), units.ratio(max(row.speedup_repeats))
                ),
                ", ".join(map(units.ratio, row.speedup_repeats)),
            ]
            for row in latency_rows(run)
            if row.speedup_ratio and row.speedup_repeats and row.contender != row.speedup_reference
        ]

    columns = (
        column,
        left("contender"),
        right("batch"),
        left("boundary"),
        right("min–max"),
        left("each"),
    )
    table = tabulated(columns, labelled_rows(labelled, cells))
    return ReportSection(
        "Speed-up of each repetition",
        table=table,
        caption="The rounds as a whole were made more than once, a while apart. A range wider than "
        "the interval above shows what the machine's state adds to it."
        if table
        else "",
    )

"""The history of a configuration: how each contender's speed-up and accuracy moved, as text."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from math import log

from foldbench.bench import units
from foldbench.bench.analysis.comparable import contrasts
from foldbench.bench.records import Run
from foldbench.reports.figures.marks import assign
from foldbench.reports.figures.trend import trend_figure
from foldbench.reports.formats.csv_rows import render_csv
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.html.page import Page, Part, fill
from foldbench.reports.html.raw_samples import embed
from foldbench.reports.render import Format
from foldbench.reports.rows.history import HistoryPoint, RunGroup, group_runs
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated
from foldbench.reports.text.names import name_of, spoken

_BARS = "▁▂▃▄▅▆▇█"
_CHANGES = 6
"""Changes between two comparisons that are listed."""
_LISTED = 20
"""Comparisons of a group that are listed, the newest ones."""
_TREND = 16
"""Bars of a trend."""
_RAW = "raw-history"


def render_history(runs: Sequence[Run], format: Format = "terminal", colour: bool = False) -> str:
    """Return the history of `runs`, ending in a newline; raise ValueError when there are none."""
    groups = group_runs(runs)
    if format == "terminal":
        return render_terminal(build_history(groups), colour=colour)
    return _RENDERERS[format](groups)


def _render_page(groups: Sequence[RunGroup]) -> str:
    document = build_history(groups)
    series = assign([point.contender for group in groups for point in group.points])
    parts: list[Part] = []
    for group in groups:
        figure = trend_figure(f"trend-{len(parts)}", group, series, ((_RAW, "every point"),))
        if figure is not None:
            parts.append(Part(f"part-{len(parts)}", figure.title, None, (figure,)))
        for section in history_sections(group, len(groups) > 1):
            parts.append(Part(f"part-{len(parts)}", section.title, section))
    raw = embed(_RAW, "Every point", "Unrounded, shares of 1.", json.loads(history_json(groups)))
    count = sum(len(group.runs) for group in groups)
    return fill(
        Page(
            title=document.title,
            kicker=f"history of {_counted(count)}",
            parts=tuple(parts),
            raw=(raw,),
        )
    )


def sparkline(values: Sequence[float | None]) -> str:
    """Return a bar a value, from the least to the most; a space for None, by ratio when all > 0.

    Of values that hardly differ (by less than 1 %) all bars are the same.
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    flat = low <= 0 or high / low < 1.01
    spread = 0.0 if flat else log(high / low)
    return "".join(
        " "
        if value is None
        else _BARS[3 if flat else round(log(value / low) / spread * (len(_BARS) - 1))]
        for value in values
    )


def build_history(groups: Sequence[RunGroup]) -> Document:
    """Return the history as tables of text."""
    sections = [section for group in groups for section in history_sections(group, len(groups) > 1)]
    count = sum(len(group.runs) for group in groups)
    configs = ", ".join(dict.fromkeys(group.config for group in groups))
    machines = tuple(dict.fromkeys(group.machine for group in groups))
    where = machines[0] if len(machines) == 1 else f"{units.count(len(machines))} machines"
    return Document(f"{configs} over time: {_counted(count)} on {where}", tuple(sections))


def _counted(count: int) -> str:
    return f"{units.count(count)} {'comparison' if count == 1 else 'comparisons'}"


def history_sections(group: RunGroup, many: bool) -> tuple[ReportSection, ...]:
    """Return a group's tables, the ones that have rows; `many` names the group in their titles."""
    return tuple(s for s in _sections(group, f" of {group.title}" if many else "") if s.table)


def _sections(group: RunGroup, where: str) -> Iterator[ReportSection]:
    references = sorted({spoken(p.reference) for p in group.points if p.reference})
    yield ReportSection(
        f"Speed-up{where}",
        table=tabulated(
            (
                left("contender"),
                right("batch"),
                right("n"),
                right("first"),
                right("last"),
                right("95 % interval"),
                left("verdict"),
                right("min–max"),
                left("trend"),
            ),
            [
                _speedup_cells(name, points)
                for name, points in group.series().items()
                if any(point.contender != point.reference for point in points)
            ],
        ),
        caption=f"Times as fast as {' or '.join(references)} of the same comparison; n: "
        "comparisons; interval and verdict are those of the last. Trend: the newest "
        f"{_TREND}, oldest first, from the least to the most of the row; level where they differ "
        "by less than 1 %. Blank: too few clean rounds for a ratio."
        if references
        else "",
        key="speedups",
    )
    yield ReportSection(
        f"Accuracy{where}",
        table=tabulated(
            (
                left("contender"),
                right("n"),
                right("first %"),
                right("last %"),
                right("95 % interval"),
                right("min–max"),
                left("trend"),
            ),
            [_accuracy_cells(*item) for item in group.accuracies().items()],
        ),
        caption="Top-1 on the test split; the interval is Wilson's, of the last comparison.",
        key="accuracy",
    )
    earlier = len(group.runs) - _LISTED
    yield ReportSection(
        f"Comparisons{where}",
        table=tabulated(
            (left("compared (UTC)"), left("run"), left("changed since the one before")),
            _run_cells(group.runs)[-_LISTED:],
        ),
        caption=f"The newest {_LISTED}; {units.count(earlier)} earlier ones are not listed."
        if earlier > 0
        else "",
    )


def _speedup_cells(name: tuple[str, int], points: Sequence[HistoryPoint]) -> list[str]:
    ratios = [p.speedup_ratio for p in points]
    known = [ratio for ratio in ratios if ratio is not None]
    last = points[-1]
    ratio, span = units.estimate(last.speedup_ratio, last.speedup_low, last.speedup_high)
    return [
        name_of(name[0]),
        units.count(name[1]),
        units.count(len(points)),
        units.ratio(ratios[0]),
        ratio,
        span,
        last.verdict or "",
        units.span(units.ratio(min(known)), units.ratio(max(known))) if len(known) > 1 else "",
        sparkline(ratios[-_TREND:]),
    ]


def _accuracy_cells(contender: str, points: Sequence[HistoryPoint]) -> list[str]:
    shares = [p.accuracy for p in points if p.accuracy is not None]
    last = points[-1]
    span = units.span(units.percent(min(shares)), units.percent(max(shares)))
    return [
        name_of(contender),
        units.count(len(points)),
        units.percent(shares[0]),
        units.percent(shares[-1]),
        units.span(units.percent(last.accuracy_low), units.percent(last.accuracy_high)),
        span if len(shares) > 1 else "",
        sparkline(shares[-_TREND:]),
    ]


def _run_cells(runs: Sequence[Run]) -> list[list[str]]:
    rows = []
    for before, run in zip((None, *runs), runs, strict=False):
        changes = contrasts(before, run) if before else ()
        described = [f"{change.what}: {change.a} → {change.b}" for change in changes[:_CHANGES]]
        more = [f"and {len(changes) - _CHANGES} more"] if len(changes) > _CHANGES else []
        nothing = "nothing that is recorded" if before else ""
        when = run.created[:16].replace("T", " ")
        rows.append([when, run.name, "; ".join([*described, *more]) or nothing])
    return rows


def history_json(groups: Sequence[RunGroup]) -> str:
    """Return every point as JSON, unrounded, ending in a newline."""
    points = [asdict(point) for group in groups for point in group.points]
    return json.dumps({"points": points}, indent=2, allow_nan=False) + "\n"


_RENDERERS: Mapping[Format, Callable[[Sequence[RunGroup]], str]] = {
    "md": lambda groups: render_markdown(build_history(groups)),
    "html": _render_page,
    "json": history_json,
    "csv": lambda groups: render_csv([run for group in groups for run in group.runs]),
}

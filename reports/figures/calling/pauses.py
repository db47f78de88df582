"""Latency after pauses: all contenders, and what each switch does to the one that suffers most."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from foldbench.bench import units
from foldbench.bench.analysis.pauses import PauseRow, pause_rows, worst_pause
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import Run
from foldbench.reports.figures.calling.curves import Axes, Curve, curve_panel
from foldbench.reports.figures.figure import ReportFigure
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import name_of

_IDENTITY = "pauses"


def pause_figure(labelled: Labelled, series: Mapping[str, SeriesStyle]) -> ReportFigure | None:
    """Return one panel for each run, and one for the switches where a pause slows somebody."""
    panels: list[Markup] = []
    caption = "Median of a call after each pause."
    shown: list[str] = []
    for label, run in labelled:
        rows = [row for m in contenders(run) for row in pause_rows(m) if row.median_s]
        if not rows:
            continue
        of = label_in(labelled, label, after=": ")
        plain = [row for row in rows if not row.switch]
        names = list(dict.fromkeys(row.contender for row in plain))
        shown += names
        curves = [
            _curve([row for row in plain if row.contender == name], rows, series[name])
            for name in names
        ]
        panels.append(_panel(len(panels), f"{of}Latency after a pause", curves, rows))
        switches = _switches(len(panels), of, run, rows, series)
        if switches:
            panels += switches
            caption = "Median of a call after each pause; as it is: with nothing switched."
    if not panels:
        return None
    return ReportFigure(
        identity=_IDENTITY,
        title="Latency after a pause",
        panels=tuple(panels),
        caption=caption,
        table=None,
        legend=tuple((series[name], name_of(name)) for name in dict.fromkeys(shown)),
    )


def _switches(
    number: int, of: str, run: Run, rows: Sequence[PauseRow], series: Mapping[str, SeriesStyle]
) -> list[Markup]:
    finding = worst_pause(contenders(run))
    if finding is None:
        return []
    name = finding.worst.contender
    mine = [row for row in rows if row.contender == name]
    switches = list(dict.fromkeys(row.switch for row in mine))
    curves = [
        _curve(
            [row for row in mine if row.switch == switch],
            rows,
            SeriesStyle(series[name].hue, i),
            switch or "as it is",
        )
        for i, switch in enumerate(switches)
    ]
    return [_panel(number, f"{of}{name_of(name)}, by switch", curves, rows)]


def _panel(number: int, heading: str, curves: Sequence[Curve], rows: Sequence[PauseRow]) -> Markup:
    axes = Axes("pause before the call", "ms a call", tuple(map(_told, _pauses(rows))))
    return curve_panel(f"{_IDENTITY}-{number}", heading, curves, axes)


def _pauses(rows: Sequence[PauseRow]) -> list[float]:
    return sorted({row.pause_s for row in rows})


def _told(pause_s: float) -> str:
    return units.pause(pause_s) if pause_s else "none"


def _curve(
    mine: Sequence[PauseRow], rows: Sequence[PauseRow], style: SeriesStyle, name: str = ""
) -> Curve:
    places = _pauses(rows)
    found = [(row.pause_s, row.median_s) for row in mine if row.median_s]
    told = ", ".join(f"{_told(p)} {units.milliseconds(median_s)} ms" for p, median_s in found)
    return Curve(
        told=f"{name or name_of(mine[0].contender)}: {told}",
        style=style,
        points=tuple((places.index(p), 1e3 * median_s) for p, median_s in found),
        name=name,
    )

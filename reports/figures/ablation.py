"""The ablation as a picture: latency and effect, step by step."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from foldbench.bench import units
from foldbench.reports.figures.elements import drawing, element, group, line, short, text
from foldbench.reports.figures.figure import ReportFigure, panel_heading
from foldbench.reports.figures.marks import SeriesStyle
from foldbench.reports.rows.ablation import AblationRow, ablation_rows
from foldbench.reports.text.labels import Labelled
from foldbench.reports.text.names import name_of

_WIDTH = 440
_ROW = 42


def ablation_figure(
    labelled: Labelled, series: Mapping[str, SeriesStyle], raw: tuple[tuple[str, str], ...]
) -> ReportFigure | None:
    """Return a panel for each run, batch size and device; None where no run has an ablation."""
    panels: list[Markup] = []
    for label, run in labelled:
        rows = ablation_rows(run)
        many = len({row.device for row in rows}) > 1
        for size, device in dict.fromkeys((row.batch_size, row.device) for row in rows):
            here = [row for row in rows if (row.batch_size, row.device) == (size, device)]
            heading = panel_heading(labelled, label, size, f" on {device}" if many else "")
            panels.append(_panel(f"ladder-{len(panels)}", heading, here, series))
    if not panels:
        return None
    return ReportFigure(
        identity="ladder",
        title="Effect of each step",
        panels=tuple(panels),
        caption="A bar is the median latency of a step, from the first at the top. × is how many "
        "times faster it is than the step before, with its 95 % interval.",
        table=None,
        raw=raw,
    )


def _panel(
    identity: str, heading: str, rows: Sequence[AblationRow], series: Mapping[str, SeriesStyle]
) -> Markup:
    longest_s = max(row.latency.median_s or 0.0 for row in rows) or 1.0
    marks, top = [text(short(heading, 60), 0, 14, "heading")], 24
    for i, row in enumerate(rows):
        y = top + i * _ROW
        width = (_WIDTH - 4) * (row.latency.median_s or 0.0) / longest_s
        bar = element("rect", x=0, y=y + 20, width=width, height=12, class_="bar")
        marks.append(text(short(row.what, 36), 0, y + 14, "label"))
        marks.append(text(_label(row), _WIDTH - 4, y + 14, "note", "end"))
        marks.append(group(bar, class_=series[row.contender].style))
    bottom = top + _ROW * len(rows)
    marks.append(line(0, top + 16, 0, bottom, "one"))
    described = "; ".join(f"{row.what} ({name_of(row.contender)}): {_label(row)}" for row in rows)
    return drawing(identity, _WIDTH, bottom + 6, f"Ablation, {heading}", f"{described}.", *marks)


def _label(row: AblationRow) -> str:
    if row.latency.status != "ok":
        return row.latency.status
    latency = f"{units.milliseconds(row.latency.median_s)} ms"
    if row.before is None:
        return latency
    ratio, span = units.estimate(row.before.point, row.before.low, row.before.high)
    return f"×{ratio}{f' ({span})' if span else ''}, {latency}"

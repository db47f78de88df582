"""The ladder as a picture: latency step by step, with what each step gave."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bench.records import Run
from reports import units
from reports.figures import Figure
from reports.ladder import LadderRow, ladder_rows
from reports.svg_elements import drawing, element, group, line, short, text
from reports.svg_marks import Series

Labelled = Sequence[tuple[str, Run]]

_WIDTH = 440
_ROW = 42


def ladder_figure(
    labelled: Labelled, series: Mapping[str, Series], raw: tuple[tuple[str, str], ...]
) -> Figure | None:
    """Return a panel for each run and batch size, None where no run is a ladder."""
    panels: list[Markup] = []
    for label, run in labelled:
        steps = ladder_rows(run)
        for size in dict.fromkeys(step.batch_size for step in steps):
            here = [step for step in steps if step.batch_size == size]
            heading = f"Batch {units.count(size)}"
            heading = (
                f"{label}, {heading[0].lower()}{heading[1:]}" if len(labelled) > 1 else heading
            )
            panels.append(_panel(f"ladder-{len(panels)}", heading, here, series))
    if not panels:
        return None
    return Figure(
        identity="ladder",
        title="What each step gave",
        panels=tuple(panels),
        caption="A bar is the median latency of a step; the figure above it is how many times "
        "faster it is than the step before.",
        table=None,
        raw=raw,
    )


def _panel(
    identity: str, heading: str, steps: Sequence[LadderRow], series: Mapping[str, Series]
) -> Markup:
    longest_s = max(step.latency.median_s or 0.0 for step in steps) or 1.0
    marks, top = [text(short(heading, 60), 0, 14, "heading")], 24
    for i, step in enumerate(steps):
        y = top + i * _ROW
        width = (_WIDTH - 20) * (step.latency.median_s or 0.0) / longest_s
        bar = element("rect", x=8, y=y + 20, width=width, height=12, class_="bar")
        marks.append(text(short(step.what, 34), 0, y + 14, "label"))
        marks.append(text(_said(step), _WIDTH - 12, y + 14, "note", "end"))
        marks.append(group(bar, class_=series[step.contender].style))
    bottom = top + _ROW * len(steps)
    marks.append(line(8, top + 16, 8, bottom, "one"))
    told = "; ".join(f"{step.what}: {_said(step)}" for step in steps)
    return drawing(identity, _WIDTH, bottom + 6, f"The ladder, {heading}", f"{told}.", *marks)


def _said(step: LadderRow) -> str:
    said = f"{units.milliseconds(step.latency.median_s)} ms"
    if step.before is None:
        return said
    span = units.span(units.ratio(step.before.low), units.ratio(step.before.high))
    return f"×{units.ratio(step.before.point)}{f' ({span})' if span else ''}, {said}"

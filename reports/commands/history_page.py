"""The history of a configuration as an HTML page, as Markdown, for the terminal, JSON and CSV."""

import json
from collections.abc import Callable, Mapping, Sequence

from foldbench.bench.records import Run
from foldbench.reports.commands.history import build_history, history_json, history_sections
from foldbench.reports.figures.marks import assign
from foldbench.reports.figures.trend import trend_figure
from foldbench.reports.formats.csv import render_csv
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.html.page import Page, Part, fill
from foldbench.reports.html.raw_samples import embed
from foldbench.reports.render import Format
from foldbench.reports.rows.history import RunGroup, group_runs
from foldbench.reports.text import units

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
            kicker=f"history of {units.count(count)} {'run' if count == 1 else 'runs'}",
            parts=tuple(parts),
            raw=(raw,),
        )
    )


_RENDERERS: Mapping[Format, Callable[[Sequence[RunGroup]], str]] = {
    "md": lambda groups: render_markdown(build_history(groups)),
    "html": _render_page,
    "json": history_json,
    "csv": lambda groups: render_csv([run for group in groups for run in group.runs]),
}

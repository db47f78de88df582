"""From runs to text in one call."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from foldbench.bench.errors import UnknownNameError, nearest
from foldbench.bench.records import Beside, Run
from foldbench.reports.figures.figure import EmbeddedImage
from foldbench.reports.formats.csv_rows import render_csv
from foldbench.reports.formats.json_record import summary
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.formats.screen import render_quiet, render_screen
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.html.page import render_page
from foldbench.reports.sections.compose import build
from foldbench.reports.sections.confusion import PER_CLASS
from foldbench.reports.sections.overview import Overview, build_overview
from foldbench.reports.text.document import Document
from foldbench.reports.text.labels import label_runs

Format = Literal["terminal", "md", "html", "json", "csv"]
Runs = Sequence[Run]


def render(
    run: Run | Runs,
    format: Format = "terminal",
    beside: Sequence[Beside] = (),
    pictures: Sequence[EmbeddedImage] = (),
    colour: bool = False,
    per_class: bool = False,
    details: bool = True,
    took_s: float | None = None,
) -> str:
    """Return the report of one run, or of several side by side, ending in a newline.

    ``json`` is one object with the list ``runs``, whatever their number. `beside` adds where the
    time goes and the capacity to ``md`` and ``html``; `pictures` are for ``html``. For
    ``terminal`` alone: `colour`, `per_class` (the accuracy of each class, which pages always have),
    and `details`, without which it is the first screen, which says that the comparison took
    `took_s`. Raises UnknownNameError for another format, ValueError when there are no runs.
    """
    runs = [run] if isinstance(run, Run) else list(run)
    if format not in _RENDERERS:
        known = get_args(Format)
        raise UnknownNameError(
            f"unknown report format {format!r}{nearest(format, known)} (known: {', '.join(known)})"
        )
    if format == "terminal" and not (details or per_class):
        return render_screen(_overview(runs, took_s), colour=colour)
    if format == "terminal":
        return render_terminal(_shown(build(runs), per_class), colour=colour)
    if format == "html":
        return render_page(runs, beside, pictures)
    return _RENDERERS[format](runs, beside)


def summarise(runs: Runs) -> str:
    """Return the answer alone, in two sentences, a line each."""
    return render_quiet(_overview(runs))


def _overview(runs: Runs, took_s: float | None = None) -> Overview:
    return build_overview(label_runs(runs)[1], took_s)


def _shown(document: Document, per_class: bool) -> Document:
    """Return the report with the accuracy of each class among what terminals show, if asked."""
    sections = tuple(
        replace(section, detail=False) if per_class and section.key == PER_CLASS else section
        for section in document.sections
    )
    return replace(document, sections=sections)


def _render_json(runs: Runs, beside: Sequence[Beside]) -> str:
    if not runs:
        raise ValueError("a report needs at least one run")
    found = {"runs": [summary(run, beside) for run in runs]}
    text = json.dumps(found, indent=2, allow_nan=False)
    return _NUMBERS.sub(lambda hit: f"[{' '.join(hit[1].split())}]", text) + "\n"


_NUMBERS = re.compile(r"\[\n([-+.,\de\s]+?)\n *\]")
"""A list of numbers, which is to stand on one line; no string in JSON has a line end in it."""


_RENDERERS: Mapping[Format, Callable[[Runs, Sequence[Beside]], str]] = {
    "terminal": lambda runs, _: render_terminal(build(runs)),
    "md": lambda runs, beside: render_markdown(build(runs, beside)),
    "html": render_page,
    "json": _render_json,
    "csv": lambda runs, _: render_csv(runs),
}

"""One HTML file that holds a whole report: tables, pictures, notes and the data behind them.

What is in it comes from the `Document` that the terminal and Markdown show too; the pictures and
the joined table are made of the same rows. It needs no network and, to be read, no script.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import foldbench
from foldbench.bench import units
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import Beside, Run
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.figures.ablation import ablation_figure
from foldbench.reports.figures.calling.load import (
    capacity_figure,
    stream_figure,
    sweep_figure,
)
from foldbench.reports.figures.calling.pauses import pause_figure
from foldbench.reports.figures.calling.shares import (
    cold_start_figure,
    memory_figure,
    stage_figure,
)
from foldbench.reports.figures.confusion import confusion_figure, overlap_figure
from foldbench.reports.figures.elements import safe
from foldbench.reports.figures.figure import STATISTICS, EmbeddedImage, ReportFigure, samples_id
from foldbench.reports.figures.latency import latency_figure
from foldbench.reports.figures.losses import loss_figure
from foldbench.reports.figures.marks import SeriesStyle, assign
from foldbench.reports.figures.speedups import speedup_figure
from foldbench.reports.figures.tradeoff import tradeoff_figure
from foldbench.reports.html.raw_samples import RawData, raw_blocks
from foldbench.reports.html.results_table import Results, build_results
from foldbench.reports.sections.compose import compose
from foldbench.reports.sections.notes import take_notes
from foldbench.reports.sections.overview import build_overview
from foldbench.reports.sections.quality import Quality
from foldbench.reports.text.document import Document, ReportSection
from foldbench.reports.text.escaping import visible
from foldbench.reports.text.labels import Labelled, label_runs


@dataclass(frozen=True)
class Part:
    """A section of the page: its pictures, then what the document says."""

    identity: str
    title: str
    section: ReportSection | None = None
    figures: tuple[ReportFigure, ...] = ()
    folded: bool = False
    """Whether the section's body is shown only on request."""


@dataclass(frozen=True)
class Page:
    """Everything that the template shows."""

    title: str
    kicker: str
    parts: tuple[Part, ...]
    raw: tuple[RawData, ...]
    pictures: tuple[EmbeddedImage, ...] = ()
    answer: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    quality: Quality | None = None
    results: tuple[Results, ...] = ()
    failed: tuple[tuple[str, str, str], ...] = ()
    """Name, status and reason of the contenders that are not in the results for it."""
    notes: tuple[str, ...] = ()
    coursework_count: int = 0
    """How many of the first notes are about the coursework."""
    footer: str = (
        f"Made by foldbench {foldbench.__version__} from stored records. Nothing in this page is "
        "loaded from elsewhere."
    )

    @property
    def contents(self) -> tuple[Part, ...]:
        """The parts that are open."""
        return tuple(part for part in self.parts if part.figures or not part.folded)

    @property
    def details(self) -> tuple[Part, ...]:
        """The parts that are shown on request."""
        return tuple(part for part in self.parts if part.folded and not part.figures)


def render_page(
    runs: Sequence[Run], beside: Sequence[Beside] = (), pictures: Sequence[EmbeddedImage] = ()
) -> str:
    """Return the report of `runs` as one HTML document; raise ValueError when there are none."""
    column, labelled = label_runs(runs)
    notes = take_notes(labelled)
    document = compose(column, labelled, notes, beside)
    overview = build_overview(labelled)
    series = assign([m.contender for _, run in labelled for m in contenders(run)])
    page = Page(
        title=document.title,
        kicker=_kicker(runs),
        answer=overview.headline,
        quality=overview.quality,
        facts=_facts(document),
        results=build_results(overview, series),
        failed=overview.lost,
        notes=notes.texts,
        coursework_count=notes.coursework_count,
        parts=tuple(_parts(document, _figures(labelled, series, beside))),
        raw=tuple(raw_blocks(labelled)),
        pictures=tuple(pictures),
    )
    return fill(page)


def render_document(document: Document, kicker: str) -> str:
    """Return a document of any kind as one HTML page, with `kicker` above its title."""
    parts = tuple(_parts(document, {}))
    return fill(Page(document.title, kicker, parts, raw=(), answer=document.answer))


_FACTS = ("machine", "GPU", "software")
_IN_RESULTS = frozenset({"accuracy", "agreement", "latency", "contenders"})
"""Sections whose tables the main table joins: here they are folded."""
_ELSEWHERE = frozenset({"notes"})


def fill(page: Page) -> str:
    """Return the page as HTML; every text in it is escaped."""
    return _template().render(
        page=page,
        style=_asset("page.css"),
        script=_asset("page.js"),
        script_sha256=_sha256(_asset("page.js")),
    )


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("foldbench.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters["pieces"] = lambda text: re.findall(r"\d+|\D+", text)
    environment.filters["size"] = units.size
    environment.filters["prose"] = _prose
    return environment.get_template("page.html")


def _shown(value: Any) -> Any:
    """Return foreign text with its invisible characters shown; markup as it is."""
    return visible(value) if type(value) is str else value


_NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:–\d[\d.,]*\d| %)|--[\w.-]*\w(?:=[\w.]*\w)?")


def _prose(text: str) -> Markup:
    """Return a sentence in which no line ends within an interval or an option, or before %."""
    return Markup(_NUMBER.sub(r'<span class="unbroken">\g<0></span>', str(safe(text))))


def _asset(name: str) -> Markup:
    return Markup(
        (files("foldbench.reports.html") / "templates" / name).read_text(encoding="utf-8")
    )


def _sha256(text: str) -> Markup:
    """Return the hash of a script as a content security policy wants it."""
    return Markup(base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())


def _kicker(runs: Sequence[Run]) -> str:
    return ", ".join(f"{run.name} of {run.created[:10]}" for run in runs)


def _facts(document: Document) -> tuple[tuple[str, str], ...]:
    pairs = dict(next((s.pairs for s in document.sections if s.key == "provenance"), ()))
    return tuple((head, pairs[head]) for head in _FACTS if head in pairs)


def _figures(
    labelled: Labelled, series: Mapping[str, SeriesStyle], beside: Sequence[Beside]
) -> Mapping[str, tuple[ReportFigure, ...]]:
    """Return the figures by the key of the section that they belong to."""
    statistics = ((STATISTICS, "statistics"),)
    samples: tuple[tuple[str, str], ...] = statistics
    timed = tuple(pair for pair in labelled if not isinstance(pair[1], PublishedRun))
    if timed:
        calls = enumerate(labelled)
        samples = tuple((samples_id(i), f"calls of {label}") for i, (label, _) in calls)
    found: dict[str, list[ReportFigure | None]] = {
        "accuracy": [tradeoff_figure(labelled, series, statistics)],
        "latency": [
            speedup_figure(labelled, series, samples),
            latency_figure(timed, series, samples) if timed else None,
        ],
        "pauses": [pause_figure(labelled, series)],
        "cold starts": [cold_start_figure(labelled, series)],
        "memory": [memory_figure(labelled, series)],
        "streams": [stream_figure(labelled, series)],
        "sweep": [sweep_figure(labelled, series)],
        "stages": [stage_figure(labelled, series)],
        "capacity": [capacity_figure(labelled, beside, series)],
        "ladder": [ablation_figure(labelled, series, samples)],
        "confusion": [confusion_figure(labelled)],
        "overlap": [overlap_figure(labelled)],
        "training": [loss_figure(labelled)],
    }
    return {key: tuple(f for f in figures if f is not None) for key, figures in found.items()}


_TITLES: Mapping[str, str] = {
    "accuracy": "Accuracy against latency",
    "latency": "Latency and speed-up",
    "training": "Training",
    "confusion": "Confusion matrix",
}
"""Titles of parts that begin with a picture, where the section's own is about its table."""


def _parts(document: Document, figures: Mapping[str, tuple[ReportFigure, ...]]) -> list[Part]:
    left = dict(figures)
    parts = []
    for i, section in enumerate(document.sections):
        if section.key in _ELSEWHERE:
            continue
        own = left.pop(section.key, ())
        title = _TITLES.get(section.key, section.title) if own else section.title
        folded = section.detail or section.key in _IN_RESULTS or bool(own and section.lead)
        parts.append(Part(f"part-{i}", title, section, own, folded))
    alone = [figure for own in left.values() for figure in own]
    parts += [Part(f"part-{f.identity}", f.title, None, (f,)) for f in alone]
    return sorted(parts, key=lambda part: part.folded and not part.figures)

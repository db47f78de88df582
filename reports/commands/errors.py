"""The errors of two networks side by side: the text and the JSON of `bench errors`."""

import json
from dataclasses import asdict
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.error_overlap import ErrorOverlap
from foldbench.bench.analysis.estimates import wilson_interval
from foldbench.bench.records import Run
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated
from foldbench.reports.text.names import spoken

_CONFUSIONS = 15
_CLASSES = 40


def render_errors(a: Run, b: Run, overlap: ErrorOverlap) -> str:
    """Return the tables for the terminal, ending in a newline."""
    sections = (_totals(overlap), _counts(overlap), _classes(overlap), _confusions(overlap))
    named = [
        f"{letter}, {run.name} ({run.checkpoint.network}, {spoken(contender)})"
        for letter, run, contender in (("A", a, overlap.contender_a), ("B", b, overlap.contender_b))
    ]
    title = (
        f"Errors of {named[0]}, and of {named[1]}, on the same {units.count(overlap.images)} test "
        f"images of {a.data.title}"
    )
    return render_terminal(Document(title, sections))


def errors_json(a: Run, b: Run, overlap: ErrorOverlap, sheet: str | None) -> dict[str, Any]:
    """Return the counts as JSON types; `sheet` is where the contact sheet was written."""
    return {
        "a": {"run": a.name, "checkpoint_sha256": a.checkpoint.sha256},
        "b": {"run": b.name, "checkpoint_sha256": b.checkpoint.sha256},
        **json.loads(json.dumps(asdict(overlap), allow_nan=False)),
        "contact_sheet": sheet,
    }


def _totals(overlap: ErrorOverlap) -> ReportSection:
    rows = []
    for name, only in (("A", overlap.only_a), ("B", overlap.only_b)):
        wrong = only + overlap.both
        low, high = wilson_interval(overlap.images - wrong, overlap.images)
        rows.append(
            [
                name,
                units.count(wrong),
                units.percent(1 - wrong / overlap.images),
                units.span(units.percent(low), units.percent(high)),
            ]
        )
    columns = (left("network"), right("wrong"), right("accuracy %"), right("95 % interval"))
    return ReportSection("Each on its own", table=tabulated(columns, rows))


def _counts(overlap: ErrorOverlap) -> ReportSection:
    right_by_both = overlap.images - overlap.only_a - overlap.only_b - overlap.both
    rows = [
        ["only A wrong", units.count(overlap.only_a)],
        ["only B wrong", units.count(overlap.only_b)],
        ["both wrong", units.count(overlap.both)],
        ["  with the same answer", units.count(overlap.both_alike)],
        ["both right", units.count(right_by_both)],
    ]
    return ReportSection(
        "Together",
        table=tabulated((left("outcome"), right("images")), rows),
        caption=f"McNemar's exact test on {units.count(overlap.only_a)} against "
        f"{units.count(overlap.only_b)}: p = {units.probability(overlap.p_value)}, the probability "
        "of counts at least so far apart if both networks were equally good.",
    )


def _classes(overlap: ErrorOverlap) -> ReportSection:
    rows = [
        [
            c.class_name,
            *map(units.count, (c.images, c.a_wrong, c.b_wrong, c.only_a, c.only_b, c.both)),
        ]
        for c in overlap.classes[:_CLASSES]
    ]
    columns = (
        left("true class"),
        right("images"),
        right("A wrong"),
        right("B wrong"),
        right("only A"),
        right("only B"),
        right("both"),
    )
    return ReportSection(
        "By class",
        table=tabulated(columns, rows),
        caption=_cut(len(overlap.classes), _CLASSES, "classes"),
    )


def _confusions(overlap: ErrorOverlap) -> ReportSection:
    rows = [
        [c.class_name, c.taken_for, units.count(c.a), units.count(c.b)]
        for c in overlap.confusions[:_CONFUSIONS]
    ]
    return ReportSection(
        "Confusions by class",
        table=tabulated(
            (left("true class"), left("taken for"), right("by A"), right("by B")), rows
        ),
        caption=_cut(len(overlap.confusions), _CONFUSIONS, "pairs"),
    )


def _cut(count: int, shown: int, what: str) -> str:
    return f"The first {shown} of {units.count(count)} {what}." if count > shown else ""

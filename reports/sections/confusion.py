"""What contenders take for what, and which images two of them get wrong: from labels and classes.

Both are in the record of a comparison; a run that was stored without labels has neither.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple

import numpy as np

from foldbench.bench import units
from foldbench.bench.records import Run
from foldbench.reports.rows.confusion import Overlap, confused_contender, confusion_of, overlaps
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, labelled_rows

_MOST = 8
"""Confusions that are listed of each run."""


def build_confusion(column: Column, labelled: Labelled) -> Iterator[ReportSection]:
    """Yield the sections; `column` heads the names of the runs where there are several."""
    rows = labelled_rows(labelled, lambda _, run: _worst(run))
    columns = (column, left("shown"), left("taken for"), right("images"), right("of that class"))
    whose = dict.fromkeys(filter(None, (confused_contender(run) for _, run in labelled)))
    table = tabulated(columns, rows)
    yield ReportSection(
        "Most frequent confusions",
        table=table,
        caption=f"By {' and '.join(whose)}; of that class: all test images of it." if table else "",
        detail=True,
        key="confusion",
    )
    yield _overlap_section(tuple(overlaps(labelled)))


def _worst(run: Run) -> list[list[str]]:
    counts = confusion_of(run)
    if counts is None:
        return []
    names, totals = run.checkpoint.classes, counts.sum(1)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST]
    places = [divmod(int(place), len(names)) for place in order]
    return [
        [names[i], names[j], units.count(int(wrong[i, j])), units.count(int(totals[i]))]
        for i, j in places
        if wrong[i, j]
    ]


def _overlap_section(found: Sequence[Overlap]) -> ReportSection:
    columns = (
        left("A"),
        left("B"),
        right("both right"),
        right("only A right"),
        right("only B right"),
        right("both wrong"),
        right("p"),
    )
    rows = [
        [
            pair.a,
            pair.b,
            *map(units.count, astuple(pair.counts)),
            units.probability(pair.counts.p_value),
        ]
        for pair in found
    ]
    return ReportSection(
        "Prediction overlap",
        table=tabulated(columns, rows),
        caption="Test images by who gets them right; p: McNemar's exact test, how likely a "
        "difference this large is if both are equally good."
        if rows
        else "",
        detail=True,
        key="overlap",
    )

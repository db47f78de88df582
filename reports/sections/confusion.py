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
from foldbench.reports.text.labels import Labelled, label_in, labelled_rows

PER_CLASS = "per_class"
_MOST_CLASSES = 50
_MOST = 8
"""Confusions that are listed of each run."""


def build_confusion(column: Column, labelled: Labelled) -> Iterator[ReportSection]:
    """Yield the sections; `column` heads the names of the runs where there are several."""
    yield _by_class(column, labelled)
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


def _by_class(column: Column, labelled: Labelled) -> ReportSection:
    """Return each class's share of right answers, the lowest first."""
    columns = (column, left("class"), right("images"), right("right"), right("accuracy %"))
    rows = labelled_rows(labelled, lambda _, run: _shares(run))
    balanced = [
        f"{units.percent(found)} %{label_in(labelled, label, before=' for ')}"
        for label, run in labelled
        if (found := _balanced(run)) is not None
    ]
    return ReportSection(
        "Accuracy by class",
        table=tabulated(columns, rows),
        caption=f"Balanced accuracy, the mean over classes: {', '.join(balanced)}."
        + (f" The {_MOST_CLASSES} lowest of a run are shown." if _is_cut(labelled) else "")
        if rows
        else "",
        detail=True,
        key=PER_CLASS,
    )


def _shares(run: Run) -> list[list[str]]:
    counts = confusion_of(run)
    if counts is None:
        return []
    right_of, totals = counts.diagonal(), counts.sum(1)
    shown = [i for i in range(len(totals)) if totals[i]]
    shown.sort(key=lambda i: right_of[i] / totals[i])
    return [
        [
            run.checkpoint.classes[i],
            units.count(int(totals[i])),
            units.count(int(right_of[i])),
            units.percent(float(right_of[i] / totals[i])),
        ]
        for i in shown[:_MOST_CLASSES]
    ]


def _balanced(run: Run) -> float | None:
    counts = confusion_of(run)
    if counts is None:
        return None
    totals = counts.sum(1)
    there = totals > 0
    return float((counts.diagonal()[there] / totals[there]).mean())


def _is_cut(labelled: Labelled) -> bool:
    return any(len(run.checkpoint.classes) > _MOST_CLASSES for _, run in labelled)


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

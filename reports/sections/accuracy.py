"""The sections about accuracy: what is right, and how contenders agree with the reference."""

from foldbench.bench import units
from foldbench.bench.analysis.estimates import wilson_interval
from foldbench.bench.records import FLOAT64, Run
from foldbench.reports.rows.accuracy import AccuracyRow, accuracy_rows
from foldbench.reports.rows.homework import Reference, reference_for
from foldbench.reports.sections.images import caption_lines
from foldbench.reports.sections.notes import Notes
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, labelled_rows
from foldbench.reports.text.names import spoken


def build_accuracy(column: Column, labelled: Labelled, notes: Notes) -> ReportSection:
    """Return what each contender got right, beside the homework\'s figure."""

    def cells(label: str, run: Run) -> list[list[str]]:
        return [
            [
                *_accuracy_cells(row),
                notes.of(label, "accuracy", row.contender),
            ]
            for row in accuracy_rows(run)
        ]

    columns = (
        column,
        left("contender"),
        left("ran on"),
        right("accuracy %"),
        right("95 % interval"),
        right("homework %"),
        right("difference"),
        left("notes"),
    )
    return ReportSection(
        "Accuracy",
        table=tabulated(columns, labelled_rows(labelled, cells)),
        caption=_accuracy_caption(labelled),
        key="accuracy",
    )


def _accuracy_cells(row: AccuracyRow) -> list[str]:
    return [
        row.contender,
        row.actual_device or "",
        _accuracy_text(row),
        units.span(units.percent(row.low), units.percent(row.high)),
        units.percent(row.homework_accuracy),
        units.points(row.homework_difference),
    ]


def _accuracy_text(row: AccuracyRow) -> str:
    if row.status != "ok":
        return row.status
    if row.random_weights:
        return "random weights"
    return units.percent(row.accuracy) if row.labelled else "no labels"


def _accuracy_caption(labelled: Labelled) -> str:
    text = f"Top-1 on the test split; the interval is Wilson's. {_of_images(labelled)}"
    if any(run.config.get("evaluate", {}).get("mirror") for _, run in labelled):
        text += (
            " With evaluate.mirror, logits are averaged with those of the mirror image: two runs "
            "of the network for one answer."
        )
    spans = [
        f"{units.percent(known.accuracy)} ({_homework_span(known)})"
        for known in (reference_for(run.checkpoint) for _, run in labelled)
        if known is not None
    ]
    if not spans:
        return text
    return (
        f"{text} The difference is in percentage points, ours minus the homework's. The homework's "
        f"figure is one training run with an interval too: {', '.join(dict.fromkeys(spans))}."
    )


def _of_images(labelled: Labelled) -> str:
    """Return what was done to the images, and of how many classes they are."""
    said = {label: " ".join(caption_lines(run)) for label, run in labelled}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return " ".join(f"{label}: {text}" for label, text in said.items())


def _homework_span(known: Reference) -> str:
    correct = round(known.accuracy * known.test_images)
    low, high = wilson_interval(correct, known.test_images)
    return units.span(units.percent(low), units.percent(high))


def build_agreement(column: Column, labelled: Labelled, notes: Notes) -> ReportSection:
    """Return how each contender agrees with the reference, and the size of its file.

    Those of a bundle have `build_answers`.
    """
    unlabelled = any(not run.data.labelled for _, run in labelled)

    def cells(label: str, run: Run) -> list[list[str]]:
        return [
            [
                row.contender,
                units.out_of(row.agreement_top1_equal, row.agreement_images)
                if row.status == "ok"
                else row.status,
                *(_without_labels(row) if unlabelled else ()),
                units.error(row.max_abs_difference),
                units.error(row.max_rel_difference),
                units.size(row.size_bytes),
                ", ".join(row.passes),
                notes.of(label, "agreement", row.contender),
            ]
            for row in (() if run.reference == FLOAT64 else accuracy_rows(run))
        ]

    columns = (
        column,
        left("contender"),
        right("agreement"),
        *((right("other class"), right("confidence %")) if unlabelled else ()),
        right("max |Δ logit|"),
        right("relative"),
        right("file size"),
        left("passes"),
        left("notes"),
    )
    references = {run.reference for _, run in labelled} - {FLOAT64}
    references_named = ", ".join(sorted(map(spoken, references)))
    return ReportSection(
        f"Agreement with {references_named}",
        table=tabulated(columns, labelled_rows(labelled, cells)),
        caption="Agreement: test images with the same predicted class. Relative: the largest "
        "difference of two logits, divided by the largest logit of the reference."
        + (_UNLABELLED if unlabelled else ""),
        key="agreement",
    )


_UNLABELLED = (
    " Other class: images that get another class than from the reference. Confidence: mean "
    "probability of the predicted class."
)


def _without_labels(row: AccuracyRow) -> tuple[str, str]:
    """Return what stands in for an accuracy: answers that changed, and how sure they are."""
    same, images = row.agreement_top1_equal, row.agreement_images
    flips = None if same is None or images is None else images - same
    return units.count(flips), units.percent(row.mean_confidence)

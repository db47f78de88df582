"""What bundles answered on their machines, held against the network in float64."""

from collections.abc import Iterator
from dataclasses import dataclass

from foldbench.bench import units
from foldbench.bench.analysis.answers import fault_of_answers
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import FLOAT64, Agreement, Run
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.rows.accuracy import accuracy_rows
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in, labelled_rows
from foldbench.reports.text.names import spoken


@dataclass(frozen=True)
class _Answers:
    """Those of one contender."""

    contender: str
    precision: str
    found: Agreement
    """With float64."""

    def are_wrong(self) -> bool:
        found = self.found
        numbers = found.top1_equal, found.images, found.max_rel_difference
        return fault_of_answers(self.precision, *numbers) is not None


def tell_answers(labelled: Labelled) -> Iterator[str]:
    """Yield how far the answers of each machine are from float64; one sentence where all agree."""
    said: dict[str, list[str]] = {}
    for label, run in labelled:
        rows = list(_answers(run))
        by_precision: dict[str, list[Agreement]] = {}
        for row in rows:
            if not row.are_wrong():
                by_precision.setdefault(row.precision, []).append(row.found)
        parts = [
            f"{f'{precision}: ' * (len(by_precision) > 1)}{_worst(found)}"
            for precision, found in by_precision.items()
        ]
        wrong = [spoken(row.contender) for row in rows if row.are_wrong()]
        if wrong:
            parts.append(f"wrong: {', '.join(wrong)}")
        if parts:
            said.setdefault("; ".join(parts), []).append(label)
    for text, labels in said.items():
        where = label_in(labelled, ", ".join(labels), before=" of ")
        yield f"Answers{where} against float64: {text}."


def build_answers(column: Column, labelled: Labelled) -> ReportSection:
    """Return how the answers of each contender differ from those in float64, wrong ones too."""

    def cells(_: str, run: Run) -> list[list[str]]:
        return [
            [
                row.contender,
                "wrong" if row.are_wrong() else "right",
                units.out_of(row.found.top1_equal, row.found.images),
                units.error(row.found.max_abs_difference),
                units.error(row.found.max_rel_difference),
            ]
            for row in _answers(run)
        ]

    columns = (
        *(column, left("contender"), left("answers"), right("same class")),
        *(right("largest difference"), right("relative")),
    )
    return ReportSection(
        "Answers",
        table=tabulated(columns, labelled_rows(labelled, cells)),
        caption="Of a bundle, on the machine that it ran on, before anything was timed: held "
        "against the logits of the network in float64. Relative: divided by the largest of these.",
        key="answers",
    )


def _answers(run: Run) -> Iterator[_Answers]:
    if run.reference != FLOAT64:
        return
    if isinstance(run, PublishedRun):
        for row in accuracy_rows(run):
            if row.agreement_images is not None:
                numbers = {
                    "images": row.agreement_images,
                    "top1_equal": row.agreement_top1_equal,
                    "max_abs_difference": row.max_abs_difference,
                    "max_rel_difference": row.max_rel_difference,
                }
                yield _Answers(row.contender, row.precision, Agreement.model_validate(numbers))
        return
    for m in contenders(run):
        if m.accuracy is not None and m.accuracy.agreement is not None:
            yield _Answers(m.contender, m.precision, m.accuracy.agreement)


def _worst(found: list[Agreement]) -> str:
    fewest = min(found, key=lambda one: one.top1_equal / one.images)
    largest = max(one.max_abs_difference for one in found)
    return (
        f"same class on {units.count(fewest.top1_equal)} of {units.count(fewest.images)}, "
        f"largest difference {units.short_error(largest)}"
    )

"""What bundles answered on their machines, held against the network in float64."""

from collections.abc import Iterator

from foldbench.bench import units
from foldbench.bench.analysis.answers import fault_of_answers
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import FLOAT64, Agreement, Measurement, Run
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in, labelled_rows
from foldbench.reports.text.names import spoken


def tell_answers(labelled: Labelled) -> Iterator[str]:
    """Yield how far the answers of each machine are from float64; one sentence where all agree."""
    said: dict[str, list[str]] = {}
    for label, run in labelled:
        by_precision: dict[str, list[Agreement]] = {}
        for m, found in _answers(run):
            if not _is_wrong(m, found):
                by_precision.setdefault(m.precision, []).append(found)
        parts = [
            f"{f'{precision}: ' * (len(by_precision) > 1)}{_worst(found)}"
            for precision, found in by_precision.items()
        ]
        wrong = [spoken(m.contender) for m, found in _answers(run) if _is_wrong(m, found)]
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
                m.contender,
                "wrong" if _is_wrong(m, found) else "right",
                units.out_of(found.top1_equal, found.images),
                units.error(found.max_abs_difference),
                units.error(found.max_rel_difference),
            ]
            for m, found in _answers(run)
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


def _answers(run: Run) -> Iterator[tuple[Measurement, Agreement]]:
    if run.reference == FLOAT64:
        for m in contenders(run):
            if m.accuracy is not None and m.accuracy.agreement is not None:
                yield m, m.accuracy.agreement


def _is_wrong(m: Measurement, found: Agreement) -> bool:
    numbers = found.top1_equal, found.images, found.max_rel_difference
    return fault_of_answers(m.precision, *numbers) is not None


def _worst(found: list[Agreement]) -> str:
    fewest = min(found, key=lambda one: one.top1_equal / one.images)
    largest = max(one.max_abs_difference for one in found)
    return (
        f"same class on {units.count(fewest.top1_equal)} of {units.count(fewest.images)}, "
        f"largest difference {units.short_error(largest)}"
    )

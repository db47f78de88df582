"""The ablation, step by step from unfolded torch to the shipped file."""

from foldbench.bench import units
from foldbench.reports.rows.ablation import AblationRow, ablation_rows
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, labelled_rows


def build_ablation(column: Column, labelled: Labelled) -> ReportSection:
    """Return the section; it is empty for runs without an ablation."""
    rows = labelled_rows(labelled, lambda _, run: map(_cells, ablation_rows(run)))
    columns = (
        column,
        right("batch"),
        left("step"),
        left("contender"),
        right("accuracy %"),
        right("other class"),
        right("median ms"),
        right("× before"),
        right("95 % interval"),
        left("verdict"),
        right("× first"),
    )
    return ReportSection(
        "Ablation: effect of each step",
        table=tabulated(columns, rows),
        caption="× before: how many times faster than the step before, × first: than the first "
        "one, both on the same device, in the same clean rounds, with a bootstrap over rounds. "
        "Other class: test images with another predicted class than from the reference."
        if rows
        else "",
        key="ladder",
    )


def _cells(row: AblationRow) -> list[str]:
    images, same = row.accuracy.agreement_images, row.accuracy.agreement_top1_equal
    before, start = row.before, row.start
    ratio, span = units.estimate(before.point, before.low, before.high) if before else ("", "")
    return [
        units.count(row.batch_size),
        row.what,
        row.contender,
        units.percent(row.accuracy.accuracy) if row.accuracy.status == "ok" else "",
        units.count(images - same) if images is not None and same is not None else "",
        units.milliseconds(row.latency.median_s)
        if row.latency.status == "ok"
        else row.latency.status,
        ratio,
        span,
        units.verdict(row.verdict),
        units.estimate(start.point, start.low, start.high)[0] if start else "",
    ]

"""Several networks in the same rounds: one table of how they compare."""

from foldbench.bench import units
from foldbench.bench.analysis.networks import (
    AccuracyPair,
    NetworkRow,
    accuracy_pairs,
    grouped,
    network_rows,
    reference_of,
)
from foldbench.reports.rows.accuracy import scored_rows
from foldbench.reports.text.document import ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled


def build_networks(labelled: Labelled) -> ReportSection:
    """Return the table; nothing for networks that were not measured in the same rounds."""
    runs = grouped([run for _, run in labelled])
    if not runs:
        return ReportSection("Networks")
    names = {id(run): label for label, run in labelled}
    reference = reference_of(runs)
    pairs = {id(pair.run): pair for pair in accuracy_pairs(runs)}
    cells = [
        [names[id(row.run)], *_cells(row, pairs.get(id(row.run)))] for row in network_rows(runs)
    ]
    columns = (
        left("network"),
        right("parameters"),
        right("accuracy %"),
        right("difference"),
        right("p"),
        left("fastest way"),
        right("batch"),
        right("median ms"),
        right("speed-up"),
        right("95 % interval"),
        left("verdict"),
        left("Pareto"),
    )
    caption = (
        f"All networks took turns in the same rounds. Each is shown by the fastest of its "
        f"contenders that keeps its accuracy; speed-ups and differences are over "
        f"{names[id(reference)]}. p: McNemar's exact test on the same images, adjusted by Holm's "
        "method. (unadjusted): would not stand among all verdicts of the table, by the same "
        "method. "
        "Pareto: no other network is both faster and at least as accurate."
    )
    if not pairs:
        caption = caption.partition(" p: ")[0]
    return ReportSection("Networks", table=tabulated(columns, cells), caption=caption)


def _cells(row: NetworkRow, pair: AccuracyPair | None) -> list[str]:
    scored = next(iter(scored_rows(row.run)), None)
    ratio, span = ("", "")
    if row.speedup is not None:
        ratio, span = units.estimate(row.speedup.point, row.speedup.low, row.speedup.high)
    return [
        units.count(row.run.checkpoint.parameter_count),
        units.percent(scored.accuracy) if scored else "",
        units.points(pair.difference) if pair else "",
        units.probability(pair.p_value) if pair else "",
        row.contender.removesuffix(f"/{row.device}"),
        units.count(row.batch_size),
        units.milliseconds(row.median_s),
        ratio,
        span,
        units.verdict(row.verdict, row.is_claimed),
        "yes" if row.on_front else "",
    ]

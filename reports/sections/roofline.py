"""Roofline: each contender's share of this machine's peak matmul throughput and bandwidth."""

from collections.abc import Iterator, Sequence
from statistics import median

from foldbench.bench import units
from foldbench.bench.records import CopyRate, MatmulRate
from foldbench.reports.rows.roofline import RooflineRow, copied, flops, roofline_rows
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in


def build_roofline(column: Column, labelled: Labelled) -> Iterator[ReportSection]:
    """Yield the sections; they are empty where nothing was measured."""
    shares = [(label, row) for label, run in labelled for row in roofline_rows(run)]
    products = [
        [
            *_named(label, row, shares),
            units.giga(row.flops_per_s),
            units.giga(row.matmul_flops_per_s),
            units.percent(row.share),
        ]
        for label, row in shares
    ]
    start = (column, left("contender"), right("batch"), left("boundary"))
    columns = (*start, right("GFLOP/s"), right("matrix products"), right("share %"))
    table = tabulated(columns, products)
    title = "Share of peak matmul throughput (roofline)"
    yield ReportSection(title, table=table, caption=_caption(labelled) if table else "")
    copies = [
        [
            *_named(label, row, shares),
            units.giga(row.bytes_per_s),
            units.giga(row.copy_bytes_per_s),
            units.percent(row.copy_share),
        ]
        for label, row in shares
        if row.copy_share is not None
    ]
    columns = (*start, right("GB/s"), right("copies"), right("share %"))
    table = tabulated(columns, copies)
    title = "Share of memory bandwidth (roofline)"
    yield ReportSection(title, table=table, caption=_copy_caption(labelled) if table else "")


def _named(label: str, row: RooflineRow, shares: Sequence[tuple[str, RooflineRow]]) -> list[str]:
    """Return what tells the row from the others; columns in which nothing differs are blank."""
    many = len({label for label, _ in shares}) > 1
    resident = any(one.boundary == "device" for _, one in shares)
    boundary = units.boundary(row.boundary) if resident else ""
    return [label if many else "", row.contender, units.count(row.batch_size), boundary]


def _copy_caption(labelled: Labelled) -> str:
    measured = dict.fromkeys(
        f"{units.size(rate.size_bytes)} on {rate.device}{_threads(rate)}, "
        f"{units.giga(copied(rate) / min(rate.samples_s))} GB/s in the best of "
        f"{len(rate.samples_s)} blocks{_disturbed(rate)}"
        for _, run in labelled
        if run.arithmetic
        for rate in run.arithmetic.copy_rates
    )
    return (
        "GB/s: what the network's convolutions and matrix products read and write when each reads "
        "its inputs and weights once and writes its result once, over the median call. Copies: "
        "what copying within the memory reached just before the rounds, reads and writes counted"
        f"{'; '.join(('', *measured))}. What stays in a cache between two layers can exceed it."
    )


def _threads(rate: MatmulRate | CopyRate) -> str:
    return f", {units.count(rate.threads)} threads" if rate.device == "cpu" else ""


def _disturbed(rate: MatmulRate | CopyRate) -> str:
    return "" if any(rate.clean) else " (something else ran in all of them: too low)"


def _caption(labelled: Labelled) -> str:
    counted = [
        f"{label_in(labelled, label, after=': ')}"
        f"{units.mega(run.arithmetic.flops_per_image)} MFLOP an image"
        for label, run in labelled
        if run.arithmetic
    ]
    measured = dict.fromkeys(
        _measured(rate)
        for _, run in labelled
        if run.arithmetic
        for rate in run.arithmetic.matmul_rates
    )
    each = f" ({'; '.join(counted)})" if counted else ""
    return (
        f"GFLOP/s: what the network's convolutions and matrix products need{each}, over the median "
        "call with all else that is in it. Matrix products: what torch.mm reached on this machine "
        f"just before the rounds, in the same precision{'; '.join(('', *measured))}. An algorithm "
        "that needs fewer operations than were counted can have a share above what it computes."
    )


def _measured(rate: MatmulRate) -> str:
    best, typical = (flops(rate) / f(rate.samples_s) for f in (min, median))
    return (
        f"{rate.precision} on {rate.device}{_threads(rate)}, "
        f"{units.count(rate.size)} rows and columns: "
        f"{units.giga(best)} GFLOP/s in the best of {len(rate.samples_s)} blocks, "
        f"{units.giga(typical)} in the median{_disturbed(rate)}"
    )

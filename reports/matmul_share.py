"""How much of this machine's rate of matrix products each contender gets out of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.records import Run
from bench.records_machine import MatmulRate
from reports import units
from reports.document import Column, Section, left, right, tabulated
from reports.tables import latency_rows

Labelled = Sequence[tuple[str, Run]]


@dataclass(frozen=True)
class ShareRow:
    """Operations per second of one contender at one batch size, beside those of matrix products."""

    contender: str
    batch_size: int
    precision: str
    flops_per_s: float
    """Of the network's convolutions and matrix products, over the whole median call."""
    matmul_flops_per_s: float | None
    """Of the fastest block of products on the same device in the same precision."""
    share: float | None


def share_rows(run: Run) -> Iterator[ShareRow]:
    """Yield a row for each contender and batch size that was timed from host to host."""
    if run.arithmetic is None:
        return
    rates = {(rate.device, rate.precision): rate for rate in run.arithmetic.matmul_rates}
    ran = {m.contender: m for m in run.measurements if m.status == "ok"}
    for row in latency_rows(run):
        if row.batch_size is None or not row.median_s or row.boundary != "host":
            continue
        m = ran[row.contender]
        rate = rates.get((m.requested_device, m.precision))
        best = flops(rate) / min(rate.samples_s) if rate else None
        reached = run.arithmetic.flops_per_image * row.batch_size / row.median_s
        share = reached / best if best else None
        yield ShareRow(row.contender, row.batch_size, m.precision, reached, best, share)


def flops(rate: MatmulRate) -> int:
    """Return the operations of one product of square matrices, a multiply-add counted as two."""
    return 2 * rate.size**3


def build_shares(column: Column, labelled: Labelled) -> Section:
    """Return the section; it is empty where nothing was measured."""
    many = len(labelled) > 1
    rows = [
        [
            label if many else "",
            row.contender,
            units.count(row.batch_size),
            units.giga(row.flops_per_s),
            units.giga(row.matmul_flops_per_s),
            units.percent(row.share),
        ]
        for label, run in labelled
        for row in share_rows(run)
    ]
    columns = (
        column,
        left("contender"),
        right("batch"),
        right("GFLOP/s"),
        right("matrix products"),
        right("share %"),
    )
    table = tabulated(columns, rows)
    return Section(
        "Fraction of the matrix-product rate",
        table=table,
        caption=_caption(labelled) if table else "",
    )


def _caption(labelled: Labelled) -> str:
    counted = [
        f"{f'{label}: ' if len(labelled) > 1 else ''}"
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
    return (
        "GFLOP/s: what the network's convolutions and matrix products need "
        f"({'; '.join(counted)}), over the median call with all else that is in it. Matrix "
        "products: what torch.mm reached on this machine just before the rounds, in the same "
        f"precision; {'; '.join(measured)}. An algorithm that needs fewer operations than were "
        "counted can have a share above what it computes."
    )


def _measured(rate: MatmulRate) -> str:
    best, typical = (flops(rate) / f(rate.samples_s) for f in (min, median))
    threads = f", {units.count(rate.threads)} threads" if rate.device == "cpu" else ""
    disturbed = "" if any(rate.clean) else " (something else ran in all of them: too low)"
    return (
        f"{rate.precision} on {rate.device}{threads}, {units.count(rate.size)} rows and columns: "
        f"{units.giga(best)} GFLOP/s in the best of {len(rate.samples_s)} blocks, "
        f"{units.giga(typical)} in the median{disturbed}"
    )

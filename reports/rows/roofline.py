"""Each contender's share of this machine's peak matmul throughput and bandwidth."""

from collections.abc import Iterator
from dataclasses import dataclass

from foldbench.bench.records import Boundary, CopyRate, MatmulRate, Run
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.rows.latency import latency_rows
from foldbench.reports.rows.published import stored_rows


@dataclass(frozen=True)
class RooflineRow:
    """One contender's operations per second at one batch size, beside the machine's peak."""

    contender: str
    batch_size: int
    precision: str
    flops_per_s: float
    """Of the network's convolutions and matrix products, over the whole median call."""
    matmul_flops_per_s: float | None
    """Of the fastest block of products on the same device in the same precision."""
    share: float | None
    boundary: Boundary = "host"
    bytes_per_s: float | None = None
    """What the network's convolutions and matrix products move, over the whole median call."""
    copy_bytes_per_s: float | None = None
    """Read and written by the fastest block of copies on the same device."""
    copy_share: float | None = None


_BYTES = {"float32": 4, "tf32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""Of one number, by what a contender computes in."""


def roofline_rows(run: Run) -> Iterator[RooflineRow]:
    """Yield a row for each contender, batch size and boundary that was timed."""
    if isinstance(run, PublishedRun):
        yield from stored_rows(run, "matmul_share", RooflineRow)
        return
    measured = run.arithmetic
    if measured is None:
        return
    rates = {(rate.device, rate.precision): rate for rate in measured.matmul_rates}
    copies = {rate.device: copied(rate) / min(rate.samples_s) for rate in measured.copy_rates}
    ran = {m.contender: m for m in run.measurements if m.status == "ok"}
    for row in latency_rows(run):
        if row.batch_size is None or not row.median_s:
            continue
        m = ran[row.contender]
        rate = rates.get((m.requested_device, m.precision))
        best = flops(rate) / min(rate.samples_s) if rate else None
        reached = measured.flops_per_image * row.batch_size / row.median_s
        moved, size, copying = None, _BYTES.get(m.precision), copies.get(m.requested_device)
        if measured.traffic and size:
            traffic = measured.traffic
            numbers = traffic.numbers_per_call + traffic.numbers_per_image * row.batch_size
            moved = numbers * size / row.median_s
        yield RooflineRow(
            contender=row.contender,
            batch_size=row.batch_size,
            precision=m.precision,
            flops_per_s=reached,
            matmul_flops_per_s=best,
            share=reached / best if best else None,
            boundary=row.boundary,
            bytes_per_s=moved,
            copy_bytes_per_s=copying,
            copy_share=moved / copying if moved and copying else None,
        )


def flops(rate: MatmulRate) -> int:
    """Return the operations of one product of square matrices, a multiply-add counted as two."""
    return 2 * rate.size**3


def copied(rate: CopyRate) -> int:
    """Return the bytes that one copy reads and writes."""
    return 2 * rate.size_bytes

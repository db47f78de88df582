"""Whether more streams give more answers a second, and what that costs in latency."""

from collections.abc import Sequence
from dataclasses import dataclass

from foldbench.bench.analysis.estimates import (
    Ratio,
    Verdict,
    judge,
    median_or_none,
    percentile,
)
from foldbench.bench.analysis.ratios import paired_ratio
from foldbench.bench.records import Block, Measurement, StreamSeries
from foldbench.bench.samples.timing import is_clean


@dataclass(frozen=True)
class StreamRow:
    """One contender under one load, against one stream with the first number of threads."""

    contender: str
    series: StreamSeries
    calls_per_s: float | None
    median_s: float | None
    p95_s: float | None
    gain: Ratio | None
    """How many times as many calls a second as the first load gives."""
    verdict: Verdict | None
    """``faster`` where it gives more, beyond the interval."""
    slowdown: Ratio | None
    """How many times as long a call takes as under the first load."""


def stream_rows(m: Measurement) -> list[StreamRow]:
    """Return a row for each load of a contender, in the order of the record."""
    series = m.as_called.streams if m.as_called else ()
    return [_row(m.contender, one, series[0]) for one in series]


def _row(contender: str, one: StreamSeries, first: StreamSeries) -> StreamRow:
    blocks = [b for b in one.blocks if is_clean(b.run_delay_ratio)] or one.blocks
    samples = [seconds for block in blocks for seconds in block.samples_s]
    rates = [len(block.samples_s) / block.wall_s for block in blocks if block.wall_s > 0]
    gain = None if one is first else gain_of(one, first)
    return StreamRow(
        contender=contender,
        series=one,
        calls_per_s=median_or_none(rates),
        median_s=median_or_none(samples),
        p95_s=percentile(samples, 0.95),
        gain=gain,
        verdict=judge(gain, 0.0) if gain else None,
        slowdown=None if one is first else paired_ratio(first.blocks, one.blocks),
    )


def gain_of(one: StreamSeries, other: StreamSeries) -> Ratio | None:
    """Return how many times as many calls a second `one` gives, over rounds that both have."""
    return paired_ratio(_turns(one.blocks), _turns(other.blocks))


def gives_more(one: StreamSeries, other: StreamSeries) -> bool:
    """Return whether `one` gives more calls a second than `other`, beyond the interval."""
    gain = gain_of(one, other)
    return gain is not None and judge(gain, 0.0) == "faster"


def _turns(blocks: Sequence[Block]) -> list[Block]:
    """Return each block with one sample: the seconds by which the next call was done."""
    return [
        Block(
            round=block.round,
            process=block.process,
            samples_s=(getattr(block, "wall_s", 0.0) / len(block.samples_s),),
            run_delay_ratio=block.run_delay_ratio,
        )
        for block in blocks
        if block.samples_s
    ]


def best_of(m: Measurement) -> StreamRow | None:
    """Return the load with the most calls a second of those that give more than the first.

    The first itself where none does; None where nothing was measured.
    """
    rows = stream_rows(m)
    if not rows or rows[0].calls_per_s is None:
        return None
    more = [row for row in rows if row.verdict == "faster" and row.calls_per_s]
    return max(more, key=lambda row: row.calls_per_s or 0.0, default=rows[0])

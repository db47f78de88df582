"""Images a second by batch size, and where doubling the batch no longer gives more."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from foldbench.bench.analysis.estimates import Ratio, Verdict, judge, median_or_none
from foldbench.bench.analysis.ratios import paired_ratio
from foldbench.bench.records import Block, Measurement, SweepSeries
from foldbench.bench.samples.timing import is_clean


@dataclass(frozen=True)
class SweepRow:
    """One contender at one batch size, against half of it in the same rounds."""

    contender: str
    batch_size: int
    median_s: float | None
    images_per_s: float | None
    gain: Ratio | None
    """How many times as many images a second as at half the batch size."""
    verdict: Verdict | None
    reason: str | None


def sweep_rows(m: Measurement) -> list[SweepRow]:
    """Return a row for each batch size of a contender."""
    series = m.as_called.sweep if m.as_called else ()
    by_size = {one.batch_size: one for one in series}
    return [_row(m.contender, one, by_size.get(one.batch_size // 2)) for one in series]


def _row(contender: str, one: SweepSeries, half: SweepSeries | None) -> SweepRow:
    blocks = [b for b in one.blocks if is_clean(b.run_delay_ratio)] or one.blocks
    median_s = median_or_none([s for block in blocks for s in block.samples_s])
    gain = gain_over(one, half) if half else None
    return SweepRow(
        contender=contender,
        batch_size=one.batch_size,
        median_s=median_s,
        images_per_s=one.batch_size / median_s if median_s else None,
        gain=gain,
        verdict=judge(gain, 0.0) if gain else None,
        reason=one.reason,
    )


def gain_over(one: SweepSeries, half: SweepSeries) -> Ratio | None:
    """Return how many times as many images a second `one` gives, over rounds that both have."""
    return paired_ratio(_per_image(one), _per_image(half))


def gives_more_images(one: SweepSeries, half: SweepSeries) -> bool:
    """Return whether `one` gives more images a second than `half`, beyond the interval."""
    gain = gain_over(one, half)
    return one.reason is None and gain is not None and judge(gain, 0.0) == "faster"


def _per_image(one: SweepSeries) -> Sequence[Block]:
    return [
        replace(block, samples_s=tuple(s / one.batch_size for s in block.samples_s))
        for block in one.blocks
    ]


def best_batch(m: Measurement) -> SweepRow | None:
    """Return the last batch size that gave more images a second than half of it; None if none."""
    rows = sweep_rows(m)
    rising = [row for row in rows if row.verdict == "faster" and row.reason is None]
    return rising[-1] if rising else rows[0] if rows and rows[0].images_per_s else None

"""How long each contender takes, and how much faster than its reference; unrounded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from foldbench.bench.analysis.clean import (
    block_medians,
    clean_blocks,
    count_clean_rounds,
    count_rounds,
)
from foldbench.bench.analysis.estimates import Verdict, median_or_none, percentile
from foldbench.bench.analysis.ratios import holm, is_claimed
from foldbench.bench.analysis.speedups import contenders, measure_speedup
from foldbench.bench.records import (
    Boundary,
    Measurement,
    Run,
    StopReason,
    Timing,
)
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.rows.published import stored_rows


@dataclass(frozen=True)
class LatencyRow:
    """How long one contender takes at one batch size; no batch size where it did not run."""

    contender: str
    status: str
    reason: str | None
    batch_size: int | None = None
    calls: int | None = None
    """All that were timed, those of dirty rounds included."""
    rounds: int | None = None
    clean_rounds: int | None = None
    """Rounds in which neither it nor its reference was disturbed; of its own without one."""
    stopped: StopReason | None = None
    steady: bool | None = None
    """Whether the times had settled before the first round."""
    warmup_calls: int | None = None
    checked_outputs: int | None = None
    first_call_s: float | None = None
    median_s: float | None = None
    """Median of the medians of its clean blocks; of all blocks where none is clean."""
    p95_s: float | None = None
    """Of all calls of the same blocks."""
    images_per_s: float | None = None
    """Batch size divided by the median."""
    speedup_reference: str | None = None
    """The contender that the speed-up is against: on the same device, at the same batch size."""
    speedup_ratio: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    speedup_floor_ratio: float | None = None
    """In place of the ratio on a loaded machine: of the 5 % quantiles of all calls."""
    verdict: Verdict | None = None
    noise_floor: float | None = None
    """How far the reference's speed-up over itself was from 1."""
    speedup_repeats: tuple[float, ...] = ()
    """The ratio of each repetition, where there were several."""
    interval_rounds: int | None = None
    """Clean rounds that the interval is from."""
    interval_processes: int | None = None
    """Processes of each contender that timed them; below 3 the interval covers one alone."""
    interval_between_sd: float | None = None
    """What comparisons differ by, of the ratio's logarithm, as the interval covers it."""
    interval_comparisons: int | None = None
    """Comparisons that this is estimated from; 1 where it is assumed."""
    p_value: float | None = None
    """Of a ratio of 1, adjusted by Holm's method for all rows of the comparison."""
    boundary: Boundary = "host"
    corrected: bool = True
    """Whether the verdict is corrected for the number of rows, as in old summaries it is not."""

    @property
    def is_claimed(self) -> bool:
        """Whether it is faster or slower with all rows of the comparison counted as claims."""
        if not self.corrected:
            return self.verdict in ("faster", "slower")
        return is_claimed(self.verdict, self.p_value)


def latency_rows(run: Run) -> tuple[LatencyRow, ...]:
    """Return one row per contender, batch size and boundary; a blank one for one without times."""
    if isinstance(run, PublishedRun):
        known = any("p_value" in row for row in run.summary["latency"])
        stored = stored_rows(run, "latency", LatencyRow)
        return tuple(replace(row, corrected=known) for row in stored)
    rows = [row for m in contenders(run) for row in _latency_rows(run, m)]
    adjusted = holm([row.p_value for row in rows])
    return tuple(replace(row, p_value=p) for row, p in zip(rows, adjusted, strict=True))


def host_rows(run: Run) -> tuple[LatencyRow, ...]:
    """Return the rows from host array to host array, the boundary that every contender has."""
    return tuple(row for row in latency_rows(run) if row.boundary == "host")


def _latency_rows(run: Run, m: Measurement) -> Iterator[LatencyRow]:
    if m.status != "ok" or not m.timings:
        yield LatencyRow(m.contender, m.status, m.reason)
        return
    for timing in m.timings:
        yield _latency_row(run, m, timing)
    if m.reason:
        yield LatencyRow(m.contender, "skipped", m.reason)


def _latency_row(run: Run, m: Measurement, timing: Timing) -> LatencyRow:
    used = [block.samples_s for block in clean_blocks(timing)]
    typical_s = median_or_none(block_medians(timing))
    found = measure_speedup(run, m, timing.batch_size, timing.boundary)
    ratio = found.ratio if found else None
    between = timing.between_comparisons if ratio and ratio.covers_comparisons else None
    return LatencyRow(
        contender=m.contender,
        status=m.status,
        reason=m.reason,
        batch_size=timing.batch_size,
        calls=len(timing.samples_s()),
        rounds=found.rounds if found else count_rounds(timing),
        clean_rounds=found.clean_rounds if found else count_clean_rounds(timing),
        stopped=timing.stopped,
        steady=timing.steady,
        warmup_calls=timing.warmup_calls,
        checked_outputs=timing.checked_outputs,
        first_call_s=timing.first_call_s,
        median_s=typical_s,
        p95_s=percentile([s for samples in used for s in samples], 0.95),
        images_per_s=timing.batch_size / typical_s if typical_s else None,
        speedup_reference=found.reference if found else None,
        speedup_ratio=ratio.point if ratio else None,
        speedup_low=ratio.low if ratio else None,
        speedup_high=ratio.high if ratio else None,
        speedup_floor_ratio=found.floor_ratio if found else None,
        verdict=found.verdict if found else None,
        noise_floor=found.noise_floor if found else None,
        speedup_repeats=found.repeats if found else (),
        interval_rounds=ratio.rounds if ratio and ratio.low is not None else None,
        interval_processes=ratio.processes if ratio and ratio.low is not None else None,
        interval_between_sd=between.sd if between else None,
        interval_comparisons=between.comparisons if between else None,
        p_value=ratio.p_value if ratio else None,
        boundary=timing.boundary,
    )

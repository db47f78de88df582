"""The self-checks: the A/A control and the single-thread control."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from foldbench.bench.analysis.clean import round_ratios
from foldbench.bench.analysis.estimates import Verdict, judge, median_or_none
from foldbench.bench.analysis.speedups import Speedup, find_reference, measure_speedup, timing_at
from foldbench.bench.records import Boundary, Measurement, Role, Run
from foldbench.bench.records.published import PublishedRun
from foldbench.reports.rows.published import stored_rows


@dataclass(frozen=True)
class SelfCheckRow:
    """One check at one batch size; no batch size where it did not run."""

    contender: str
    role: Role
    status: str
    reason: str | None
    batch_size: int | None = None
    reference: str | None = None
    rounds: int | None = None
    clean_rounds: int | None = None
    ratio: float | None = None
    """``again``: the reference's speed-up over itself. ``one_thread``: with all its threads over
    one. Median over clean rounds."""
    low: float | None = None
    """Lower end of the 95 % interval (``again`` alone)."""
    high: float | None = None
    floor_ratio: float | None = None
    """In place of the ratio on a loaded machine (``again`` alone)."""
    least: float | None = None
    """Of the ratios of the clean rounds."""
    most: float | None = None
    verdict: Verdict | None = None
    """Of ``again``, which has to be ``no difference resolved``."""
    boundary: Boundary = "host"


def self_check_rows(run: Run) -> tuple[SelfCheckRow, ...]:
    """Return one row per self-check and batch size; one blank row for one without times."""
    if isinstance(run, PublishedRun):
        return tuple(stored_rows(run, "self_checks", SelfCheckRow))
    checks = [m for m in run.measurements if m.role != "contender"]
    return tuple(row for m in checks for row in _rows(run, m))


def _rows(run: Run, m: Measurement) -> Iterator[SelfCheckRow]:
    blank = SelfCheckRow(m.contender, m.role, m.status, m.reason)
    if m.status != "ok" or not m.timings:
        yield blank
        return
    reference = find_reference(run, m)
    for timing in m.timings:
        row = replace(blank, batch_size=timing.batch_size, boundary=timing.boundary)
        found = measure_speedup(run, m, timing.batch_size, timing.boundary)
        if reference is None or found is None:
            yield row
            continue
        times = round_ratios(timing, timing_at(reference, timing.batch_size, timing.boundary))
        ratios = [1 / time for time in times] if m.role == "again" else times
        row = replace(
            row,
            reference=found.reference,
            rounds=found.rounds,
            clean_rounds=found.clean_rounds,
            least=min(ratios, default=None),
            most=max(ratios, default=None),
        )
        yield (
            _aa_control(row, found)
            if m.role == "again"
            else replace(row, ratio=median_or_none(ratios))
        )


def _aa_control(row: SelfCheckRow, found: Speedup) -> SelfCheckRow:
    """Return the row with the reference's speed-up over itself."""
    ratio = found.ratio
    return replace(
        row,
        ratio=ratio.point if ratio else None,
        low=ratio.low if ratio else None,
        high=ratio.high if ratio else None,
        floor_ratio=found.floor_ratio,
        verdict=judge(ratio, 0.0) if ratio else None,
    )

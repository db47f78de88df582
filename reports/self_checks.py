"""What the measurement says about itself: the reference timed again, and with one thread."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.records import Boundary, Measurement, Role, Run, Timing
from bench.speedups import find_reference, measure_speedup, round_ratios, timing_at
from bench.statistics import Verdict, judge, median


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
    checks = [m for m in run.measurements if m.role != "contender"]
    return tuple(row for m in checks for row in _rows(run, m))


def _rows(run: Run, m: Measurement) -> Iterator[SelfCheckRow]:
    if m.status != "ok" or not m.timings:
        yield SelfCheckRow(m.contender, m.role, m.status, m.reason)
        return
    reference = find_reference(run, m)
    for timing in m.timings:
        theirs = None
        if reference:
            theirs = timing_at(reference, timing.batch_size, timing.boundary)
        if m.role == "again":
            yield _again(run, m, timing, theirs)
        else:
            yield _one_thread(m, timing, reference, theirs)


def _again(run: Run, m: Measurement, timing: Timing, theirs: Timing | None) -> SelfCheckRow:
    found = measure_speedup(run, m, timing.batch_size, timing.boundary)
    if found is None:
        return SelfCheckRow(m.contender, m.role, m.status, m.reason, timing.batch_size)
    ratio = found.ratio
    ratios = [1 / value for value in round_ratios(timing, theirs)]
    return SelfCheckRow(
        contender=m.contender,
        role=m.role,
        status=m.status,
        reason=m.reason,
        batch_size=timing.batch_size,
        reference=found.reference,
        rounds=found.rounds,
        clean_rounds=found.clean_rounds,
        ratio=ratio.point if ratio else None,
        low=ratio.low if ratio else None,
        high=ratio.high if ratio else None,
        floor_ratio=found.floor_ratio,
        least=min(ratios, default=None),
        most=max(ratios, default=None),
        verdict=judge(ratio, 0.0) if ratio else None,
        boundary=timing.boundary,
    )


def _one_thread(
    m: Measurement, timing: Timing, reference: Measurement | None, theirs: Timing | None
) -> SelfCheckRow:
    ratios = round_ratios(timing, theirs)
    others = {block.round for block in theirs.blocks} if theirs else set()
    return SelfCheckRow(
        contender=m.contender,
        role=m.role,
        status=m.status,
        reason=m.reason,
        batch_size=timing.batch_size,
        reference=reference.contender if reference else None,
        rounds=len({block.round for block in timing.blocks} & others),
        clean_rounds=len(ratios),
        ratio=median(ratios),
        least=min(ratios, default=None),
        most=max(ratios, default=None),
    )

"""What pauses do to a call: latency after each, against calls back to back, and its price."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from foldbench.bench.analysis.estimates import (
    Ratio,
    Verdict,
    judge,
    median_or_none,
    percentile,
)
from foldbench.bench.analysis.ratios import paired_ratio
from foldbench.bench.records import CallCosts, Measurement, PausedBlock, PauseSeries, Switch
from foldbench.bench.samples.timing import is_clean


@dataclass(frozen=True)
class PauseRow:
    """One contender after pauses of one length; None for what cannot be said."""

    contender: str
    switch: Switch
    pause_s: float
    calls: int
    median_s: float | None
    p95_s: float | None
    """None below 200 calls."""
    multiple: Ratio | None
    """How many times as long a call takes as after the first pause of all; with a switch, as
    without it after the same pause. In the same rounds."""
    verdict: Verdict | None
    """``slower`` where a call takes longer beyond the interval."""
    idle_cores: float | None
    """CPU time in the pauses, as a share of them: the cores that waiting costs."""
    switches: float | None
    """Context switches of a call, the mean."""
    faults: float | None
    """Page faults of a call, the mean."""
    mhz: tuple[float, float] | None
    """Of the fastest CPU after a pause and after the last call, medians over blocks."""
    reason: str | None


def pause_rows(m: Measurement) -> list[PauseRow]:
    """Return a row for each pause and switch of a contender, in the order of the record."""
    return rows_of(m.contender, m.as_called.pauses if m.as_called else ())


def rows_of(contender: str, series: Sequence[PauseSeries]) -> list[PauseRow]:
    """Return a row for each of `series`: of one contender, as it is after the first pause first."""
    as_it_is = {one.pause_s: one for one in reversed(series) if not one.switch}
    bases = (as_it_is.get(one.pause_s if one.switch else _first(series)) for one in series)
    return [_row(contender, one, base) for one, base in zip(series, bases, strict=True)]


def slowest(rows: Iterable[PauseRow]) -> PauseRow | None:
    """Return the row after the pause that slows a contender most; None where none is seen to."""
    slow = [row for row in rows if not row.switch and row.verdict == "slower" and row.multiple]
    return max(slow, key=lambda row: row.multiple.point if row.multiple else 0.0, default=None)


def _first(series: Sequence[PauseSeries]) -> float:
    return series[0].pause_s


def _row(contender: str, one: PauseSeries, base: PauseSeries | None) -> PauseRow:
    blocks = clean_or_all(one.blocks)
    samples = [seconds for block in blocks for seconds in block.samples_s]
    costs = [block.costs for block in blocks if block.costs]
    multiple = paired_ratio(base.blocks, one.blocks) if base and base is not one else None
    clocks = [b.clocks.cpu_mhz for b in blocks if b.clocks and b.clocks.cpu_mhz]
    idle_s = sum(cost.pause_cpu_s for cost in costs)
    paused_s = sum(cost.paused_s for cost in costs)
    return PauseRow(
        contender=contender,
        switch=one.switch,
        pause_s=one.pause_s,
        calls=len(samples),
        median_s=median_or_none(samples),
        p95_s=percentile(samples, 0.95),
        multiple=multiple,
        verdict=_verdict(multiple),
        idle_cores=idle_s / paused_s if one.pause_s and paused_s else None,
        switches=_mean(costs, len(samples), "switches", "preemptions"),
        faults=_mean(costs, len(samples), "minor_faults", "major_faults"),
        mhz=(median(b for b, _ in clocks), median(a for _, a in clocks)) if clocks else None,
        reason=one.reason,
    )


def clean_or_all(blocks: Sequence[PausedBlock]) -> Sequence[PausedBlock]:
    """Return the blocks that were left alone; all of them where none was."""
    return [block for block in blocks if is_clean(block.run_delay_ratio)] or blocks


def _verdict(multiple: Ratio | None) -> Verdict | None:
    """Return what a pause does to a call; a multiple above 1 is slower."""
    if multiple is None:
        return None
    found = judge(multiple, 0.0)
    turned: dict[Verdict | None, Verdict] = {"faster": "slower", "slower": "faster"}
    return turned.get(found, found)


def _mean(costs: Sequence[CallCosts], calls: int, *names: str) -> float | None:
    if not costs or not calls:
        return None
    return sum(getattr(cost, name) for cost in costs for name in names) / calls


_REMEDIES = ("no spin-wait", "one thread", "kept warm")
"""Switches that somebody may want; the others are controls."""


@dataclass(frozen=True)
class PauseFinding:
    """What a pause does to a contender, and the switch that undoes most of it."""

    worst: PauseRow
    remedy: PauseRow | None
    """The same pause with the switch with which a call is fastest, where that is faster."""
    remedy_ratio: Ratio | None
    """How many times faster a call is with it."""
    is_remedy_known: bool
    """Whether there were rounds enough to hold a switch against it."""
    cold_caches: Ratio | None
    """How many times as long a call takes back to back, or after the first pause, when the caches
    were emptied; None where that is not longer beyond the interval."""

    @property
    def multiple(self) -> float:
        """How many times as long a call takes."""
        return self.worst.multiple.point if self.worst.multiple else 0.0


def pause_finding(m: Measurement) -> PauseFinding | None:
    """Return the pause that slows a contender most; None where none does beyond the interval."""
    rows = pause_rows(m)
    worst = slowest(rows)
    if worst is None or not m.as_called:
        return None
    series = m.as_called.pauses
    blocks = {(one.switch, one.pause_s): one.blocks for one in series}
    found, is_known = [], False
    for row in rows:
        if row.switch in _REMEDIES and row.pause_s == worst.pause_s:
            ratio = paired_ratio(blocks[row.switch, row.pause_s], blocks["", row.pause_s])
            verdict = judge(ratio, 0.0) if ratio else None
            is_known = is_known or verdict is not None
            if ratio and verdict == "faster":
                found.append((ratio.point, row, ratio))
    best = max(found, key=lambda one: one[0], default=None)
    first_s = _first(series)
    cold = paired_ratio(blocks["", first_s], blocks.get(("cold caches", first_s), ()))
    return PauseFinding(
        worst,
        best[1] if best else None,
        best[2] if best else None,
        is_known,
        cold if _verdict(cold) == "slower" else None,
    )


def worst_pause(measurements: Iterable[Measurement]) -> PauseFinding | None:
    """Return the finding of the contender that a pause slows most; None where none is slowed."""
    found = [finding for m in measurements if (finding := pause_finding(m))]
    return max(found, key=lambda finding: finding.multiple, default=None)

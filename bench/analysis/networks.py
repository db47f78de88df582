"""Several networks that took turns in the same rounds: how they compare with one another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foldbench.bench.analysis.clean import block_medians
from foldbench.bench.analysis.error_overlap import cross_tabulate
from foldbench.bench.analysis.estimates import (
    Ratio,
    Verdict,
    judge,
    median_or_none,
)
from foldbench.bench.analysis.ratios import holm, is_claimed
from foldbench.bench.analysis.speedups import (
    completed,
    keeps_accuracy,
    measure_speedup,
    measure_step,
    scored,
    timing_at,
)
from foldbench.bench.records import Accuracy, Measurement, Run


@dataclass(frozen=True)
class NetworkRow:
    """One network at one batch size, on one device, by its best way to run it."""

    run: Run
    contender: str
    """The fastest that keeps the accuracy of its own network."""
    batch_size: int
    device: str
    median_s: float | None
    speedup: Ratio | None
    """Over the reference network's row; None for that one, and with too few clean rounds."""
    verdict: Verdict | None
    p_value: float | None = None
    """Of a ratio of 1, adjusted by Holm's method for all rows of the table."""
    on_front: bool = False
    """Whether no other network is both faster and more accurate."""

    @property
    def is_claimed(self) -> bool:
        """Whether it is faster or slower with all rows of the table counted as claims."""
        return is_claimed(self.verdict, self.p_value)


@dataclass(frozen=True)
class AccuracyPair:
    """One network's accuracy beside the reference's, on the same images."""

    run: Run
    accuracy: float
    difference: float
    """Shares of 1, this one minus the reference."""
    p_value: float
    """Of McNemar's exact test, by Holm's method over all pairs of the comparison."""


def grouped(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs where all of them took turns in the same rounds, else none."""
    groups = {run.group for run in runs}
    if len(runs) < 2 or len(groups) > 1 or None in groups:
        return ()
    return tuple(runs)


def reference_of(runs: Sequence[Run]) -> Run:
    """Return the network that the others are held against: the one asked for, or the first."""
    return next((run for run in runs if run.name == run.reference_network), runs[0])


def network_rows(runs: Sequence[Run]) -> tuple[NetworkRow, ...]:
    """Return a row for each device, batch size and network that was timed there."""
    rows: list[NetworkRow] = []
    found = [(run, m) for run in runs for m in completed(run)]
    devices = dict.fromkeys(m.actual_device or m.requested_device for _, m in found)
    sizes = dict.fromkeys(t.batch_size for _, m in found for t in m.timings)
    for device in devices:
        for size in sizes:
            rows += _rows_at(runs, device, size)
    adjusted = holm([row.speedup.p_value if row.speedup else None for row in rows])
    return tuple(replace(row, p_value=p) for row, p in zip(rows, adjusted, strict=True))


def _rows_at(runs: Sequence[Run], device: str, batch_size: int) -> list[NetworkRow]:
    best = {run.name: _best(run, device, batch_size) for run in runs}
    reference = reference_of(runs)
    baseline = best[reference.name]
    rows = []
    for run in runs:
        m = best[run.name]
        timing = timing_at(m, batch_size) if m else None
        if m is None or timing is None:
            continue
        ratio = None
        if baseline is not None and run is not reference:
            ratio = measure_step(reference, baseline, m, batch_size)
        rows.append(
            NetworkRow(
                run=run,
                contender=m.contender,
                batch_size=batch_size,
                device=device,
                median_s=median_or_none(block_medians(timing)),
                speedup=ratio,
                verdict=judge(ratio, _noise_of(reference, baseline, batch_size)) if ratio else None,
            )
        )
    return _with_front(rows)


def _best(run: Run, device: str, batch_size: int) -> Measurement | None:
    """Return the fastest row that keeps the accuracy of its network."""
    medians: list[tuple[float, Measurement]] = []
    for m in completed(run):
        timing = timing_at(m, batch_size)
        median = median_or_none(block_medians(timing)) if timing else None
        here = (m.actual_device or m.requested_device) == device
        if here and median is not None and keeps_accuracy(run, m):
            medians.append((median, m))
    return min(medians, key=lambda pair: pair[0])[1] if medians else None


def _noise_of(reference: Run, baseline: Measurement | None, batch_size: int) -> float:
    """Return the A/A difference in the reference network's rounds, 0 where it was not timed."""
    found = measure_speedup(reference, baseline, batch_size) if baseline else None
    return (found.noise_floor or 0.0) if found else 0.0


def _with_front(rows: Sequence[NetworkRow]) -> list[NetworkRow]:
    """Mark the rows that no other one beats in both speed and accuracy."""
    points = []
    for row in rows:
        shown = _accuracy_of(row.run)
        share = None if shown is None or shown.correct is None else shown.correct / shown.total
        points.append((row.median_s, share))

    def beaten(point: tuple[float | None, float | None]) -> bool:
        median, share = point
        if median is None or share is None:
            return True
        return any(
            m is not None
            and s is not None
            and m <= median
            and s >= share
            and (m < median or s > share)
            for m, s in points
        )

    return [
        replace(row, on_front=not beaten(point)) for row, point in zip(rows, points, strict=True)
    ]


def accuracy_pairs(runs: Sequence[Run]) -> tuple[AccuracyPair, ...]:
    """Return each network's accuracy beside the reference's, on the same labelled images.

    P-values are adjusted by Holm's step-down method (S. Holm, Scand. J. Stat. 6, 1979). None
    without labels, and for networks of random weights.
    """
    reference = reference_of(runs)
    baseline = _accuracy_of(reference)
    if baseline is None or reference.labels is None or not baseline.top1:
        return ()
    labels = np.asarray(reference.labels)
    pairs = []
    for run in runs:
        found = _accuracy_of(run)
        if run is reference or found is None or found.correct is None or not found.top1:
            continue
        table = cross_tabulate(labels, np.asarray(baseline.top1), np.asarray(found.top1))
        accuracy = found.correct / found.total
        difference = accuracy - (baseline.correct or 0) / baseline.total
        pairs.append(AccuracyPair(run, accuracy, difference, table.p_value))
    adjusted = holm([pair.p_value for pair in pairs])
    return tuple(replace(pair, p_value=p or 0.0) for pair, p in zip(pairs, adjusted, strict=True))


def _accuracy_of(run: Run) -> Accuracy | None:
    first = next(iter(scored(run)), None)
    return first.accuracy if first else None

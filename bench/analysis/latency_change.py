"""Latency of two comparisons row by row, judged by the ratio to the baseline within each of them.

Run A is the one before, run B the one after. They were not timed in turns, so an absolute time
tells what the machine did between them as much as what the software does; the ratio to the baseline
of the same rounds does not. Two runs of one group were timed in the same rounds, and are compared
round by round.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from foldbench.bench.analysis.clean import (
    block_medians,
    clean_pairs,
    count_clean_rounds,
    round_ratios,
)
from foldbench.bench.analysis.comparable import work_of
from foldbench.bench.analysis.estimates import (
    MIN_CLEAN_ROUNDS,
    RESOLUTION,
    Ratio,
    Verdict,
    best_case_ratio,
    judge,
    median_or_none,
    unpaired_ratio,
)
from foldbench.bench.analysis.ratios import Side, changed_ratio, estimated_ratio
from foldbench.bench.analysis.speedups import (
    completed,
    find_reference,
    measure_speedup,
    timing_at,
)
from foldbench.bench.records import Boundary, Checkpoint, Measurement, Run, Timing


@dataclass(frozen=True)
class LatencyChange:
    """One contender at one batch size in both runs."""

    contender: str
    batch_size: int
    a_s: float | None
    """Median over clean blocks of the blocks' medians; over all where none is clean."""
    b_s: float | None
    a_clean_blocks: int
    """Rounds in which it and the baseline were left alone."""
    b_clean_blocks: int
    reference: str | None
    """The baseline on the same device, the row itself where it is that; None where both runs were
    timed in the same rounds, or where there is none."""
    ratio: Ratio | None
    """How many times faster B is: its speed-up over the baseline divided by A's, or A's time by B's
    in the same rounds. None where either run has too few clean rounds, and for the baseline."""
    floor_ratio: float | None
    """The same of the 5 % quantiles of all calls: given in place of `ratio` on a loaded machine."""
    noise_floor: float | None
    """The larger one of both runs' A/A floors; None where neither timed its reference twice."""
    verdict: Verdict | None
    unjudged: str | None
    """Why there is no verdict; None where there is one, and for a baseline that others are held
    against."""
    same_work: bool
    """Whether both runs ran the same file in the same runtime with the same settings."""
    device: str | None
    boundary: Boundary = "host"

    @property
    def time_ratio(self) -> float | None:
        """Absolute time in B for each second in A."""
        return self.b_s / self.a_s if self.a_s and self.b_s else None


@dataclass(frozen=True)
class Drift:
    """The baseline of a device took another time in B than in A: how all rows there moved."""

    device: str | None
    boundary: Boundary
    reference: str
    reference_ratio: float
    """Absolute time of the baseline in B for each second in A, median over batch sizes."""
    low: float
    """The least one of all rows, baseline included."""
    high: float
    together: bool
    """Whether all rows moved alike: each within RESOLUTION of their median."""
    same_work: bool
    """Whether each ran the same file in the same runtime with the same settings."""


def latency_changes(a: Run, b: Run, names: Sequence[str]) -> tuple[LatencyChange, ...]:
    """Return the change of each contender called one of `names`, which ran in both."""
    of_a, of_b = ({m.contender: m for m in completed(run)} for run in (a, b))
    changes = [
        _change(a, b, (of_a[name], of_b[name]), (before, after))
        for name in names
        for before in of_a[name].timings
        if (after := timing_at(of_b[name], before.batch_size, before.boundary)) is not None
    ]
    return tuple(_with_lonely_baselines(changes))


def find_drifts(rows: Sequence[LatencyChange]) -> tuple[Drift, ...]:
    """Return where the baseline's absolute time moved by more than RESOLUTION."""
    held = [row for row in rows if row.reference is not None and row.time_ratio is not None]
    found = []
    for device, boundary in dict.fromkeys((row.device, row.boundary) for row in held):
        here = [row for row in held if (row.device, row.boundary) == (device, boundary)]
        moves = [row.time_ratio or 1.0 for row in here]
        own = [row.time_ratio or 1.0 for row in here if row.contender == row.reference]
        if not own or abs(median(own) - 1) <= RESOLUTION:
            continue
        middle = median(moves)
        alike = all(abs(move / middle - 1) <= RESOLUTION for move in moves)
        found.append(
            Drift(
                device=device,
                boundary=boundary,
                reference=str(here[0].reference),
                reference_ratio=median(own),
                low=min(moves),
                high=max(moves),
                together=alike and len({row.contender for row in here}) > 1,
                same_work=all(row.same_work for row in here),
            )
        )
    return tuple(found)


def _change(
    a: Run,
    b: Run,
    rows: tuple[Measurement, Measurement],
    timings: tuple[Timing, Timing],
) -> LatencyChange:
    before, after = timings
    floors = [
        _aa_noise(run, row, timing) for run, row, timing in zip((a, b), rows, timings, strict=True)
    ]
    noise_floor = max((floor for floor in floors if floor is not None), default=None)
    change = LatencyChange(
        contender=rows[0].contender,
        batch_size=before.batch_size,
        a_s=median_or_none(block_medians(before)),
        b_s=median_or_none(block_medians(after)),
        a_clean_blocks=count_clean_rounds(before),
        b_clean_blocks=count_clean_rounds(after),
        reference=None,
        ratio=None,
        floor_ratio=None,
        noise_floor=noise_floor,
        verdict=None,
        unjudged=None,
        same_work=work_of(rows[0]) == work_of(rows[1]) and rows[0].source_sha256 is not None,
        device=rows[0].actual_device,
        boundary=before.boundary,
    )
    if a.group is not None and a.group == b.group:
        change = _in_same_rounds(a, change, before, after)
    else:
        change = _against_baseline(a, b, change, rows, timings)
    if change.ratio is None:
        return change
    verdict = judge(change.ratio, noise_floor or 0.0)
    short = None if verdict else "too few rounds for an interval: compare with more --rounds"
    return replace(change, verdict=verdict, unjudged=short)


def _in_same_rounds(a: Run, change: LatencyChange, before: Timing, after: Timing) -> LatencyChange:
    mine, _ = clean_pairs(after.blocks, before.blocks)
    ratio = estimated_ratio(after.blocks, before.blocks, a.rounds, after.between_comparisons)
    return replace(
        change,
        a_clean_blocks=len(mine),
        b_clean_blocks=len(mine),
        ratio=ratio,
        floor_ratio=None if ratio else best_case_ratio(before.samples_s(), after.samples_s()),
        unjudged=None if ratio else _too_few(len(mine)),
    )


def _against_baseline(
    a: Run,
    b: Run,
    change: LatencyChange,
    rows: tuple[Measurement, Measurement],
    timings: tuple[Timing, Timing],
) -> LatencyChange:
    """Return `change` with the ratio of both speed-ups, or with why there is none."""
    if a.baseline != b.baseline:
        return replace(
            change,
            unjudged=f"the baselines differ, {a.baseline} in A and {b.baseline} in B: compare "
            "both with the same --reference",
        )
    references = [find_reference(run, row) for run, row in zip((a, b), rows, strict=True)]
    baselines = [
        timing_at(reference, change.batch_size, change.boundary) if reference else None
        for reference in references
    ]
    first, second = baselines
    if references[0] is None or first is None or second is None:
        where = " and ".join(
            letter for letter, timing in zip("AB", baselines, strict=True) if timing is None
        )
        return replace(
            change,
            unjudged=f"the baseline {a.baseline} was not timed on {change.device} in {where}",
        )
    change = replace(change, reference=references[0].contender)
    if not _same_network(a.checkpoint, b.checkpoint):
        return replace(
            change,
            unjudged="another network, so another baseline: bench compare RUN_A RUN_B measures "
            "both in the same rounds",
        )
    if change.reference == change.contender:
        return change
    of_a, of_b = round_ratios(timings[0], first), round_ratios(timings[1], second)
    sides = [
        Side(mine.blocks, theirs.blocks, mine.between_comparisons)
        for mine, theirs in zip(timings, (first, second), strict=True)
    ]
    ratio = changed_ratio(*sides)
    if ratio is None and len(of_a) >= _rounds_needed(a) and len(of_b) >= _rounds_needed(b):
        ratio = unpaired_ratio(of_a, of_b)
    return replace(
        change,
        a_clean_blocks=len(of_a),
        b_clean_blocks=len(of_b),
        ratio=ratio,
        floor_ratio=None if ratio else _floors(timings, (first, second)),
        unjudged=None if ratio else _too_few(min(len(of_a), len(of_b))),
    )


def _with_lonely_baselines(rows: Sequence[LatencyChange]) -> Iterator[LatencyChange]:
    """Yield `rows`; a baseline that nothing is held against has no verdict, and says so."""
    companions = {_place(row) for row in rows if row.contender != row.reference}
    for row in rows:
        alone = row.contender == row.reference and _place(row) not in companions
        if alone and row.unjudged is None:
            yield replace(
                row, unjudged="nothing but the baseline ran, which the machine moves as well"
            )
        else:
            yield row


def _place(row: LatencyChange) -> tuple[object, ...]:
    return row.device, row.batch_size, row.boundary


def _floors(timings: tuple[Timing, Timing], baselines: tuple[Timing, Timing]) -> float | None:
    speedups = [
        best_case_ratio(baseline.samples_s(), timing.samples_s())
        for timing, baseline in zip(timings, baselines, strict=True)
    ]
    return speedups[1] / speedups[0] if speedups[0] and speedups[1] else None


def _rounds_needed(run: Run) -> int:
    return min(MIN_CLEAN_ROUNDS, run.rounds)


def _too_few(count: int) -> str:
    return f"too few clean rounds ({count}): compare on a quieter machine or with more --budget"


def _aa_noise(run: Run, measurement: Measurement, timing: Timing) -> float | None:
    speedup = measure_speedup(run, measurement, timing.batch_size, timing.boundary)
    return speedup.noise_floor if speedup else None


def _same_network(a: Checkpoint, b: Checkpoint) -> bool:
    """Return whether both compute the same, weights aside: only then is the baseline the same."""
    return _architecture(a) == _architecture(b)


def _architecture(checkpoint: Checkpoint) -> tuple[object, ...]:
    source = checkpoint.source
    return (
        checkpoint.model,
        checkpoint.network,
        checkpoint.model_args,
        checkpoint.parameter_count,
        checkpoint.preprocessing.input_shape,
        sorted(source.files.values()) if source else [],
    )

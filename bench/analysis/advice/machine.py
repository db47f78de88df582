"""Warnings about the machine: what else ran, and whether it stayed the same machine."""

from collections.abc import Iterator, Mapping

from foldbench.bench.analysis.advice.rule import (
    FOREIGN_LIMIT_CORES,
    Advice,
    Number,
    Rule,
    about,
    setting,
    timed,
    timed_clean,
)
from foldbench.bench.analysis.clean import (
    DIRTY_RUN_DELAY,
    block_medians,
    count_clean_rounds,
    count_rounds,
    round_ratios,
)
from foldbench.bench.analysis.estimates import RESOLUTION, largest_gap, median_or_none
from foldbench.bench.analysis.speedups import (
    Speedup,
    find_reference,
    measure_speedup,
    self_checks,
    timing_at,
)
from foldbench.bench.records import Block, Measurement, Run, Timing
from foldbench.bench.samples.ratios import MIN_REPETITIONS

DIRTY_LIMIT = 0.2
"""Share of a contender's rounds in which its threads waited for a CPU at every attempt."""
GAP_LIMIT = 0.05
"""Distance of two groups of rounds, relative to the lower one."""
STEAL_LIMIT = 0.01
"""Median share of a block that a hypervisor gave to other machines, summed over CPUs."""
THROUGHPUT_LIMIT = 4.0
"""Times the peak of matrix products. Fast convolutions save at most that many products: Winograd's
F(4x4, 3x3) (Lavin and Gray, 2016, https://arxiv.org/abs/1509.09308)."""


def _blocks(run: Run) -> list[Block]:
    return [block for _, timing in timed(run) for block in timing.blocks]


def _find_loaded(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed(run):
        rounds, clean = count_rounds(timing), count_clean_rounds(timing)
        if rounds - clean > DIRTY_LIMIT * rounds:
            numbers: dict[str, Number] = {
                "dirty_count": rounds - clean,
                "rounds_count": rounds,
                "worst_ratio": max(b.run_delay_ratio or 0.0 for b in timing.blocks),
                "limit_ratio": DIRTY_RUN_DELAY,
                "use": "they are left out" if clean else "there are no others to show",
            }
            yield about(kind, m, timing, (rounds - clean) / rounds, numbers)


def _find_state_changed(run: Run, kind: str) -> Iterator[Advice]:
    repeats = setting(run, "repeat")
    remedy = "Its interval covers what differed between the repetitions"
    if repeats < MIN_REPETITIONS:
        again = f"--set compare.repeat={MIN_REPETITIONS}"
        remedy = f"Repeat the whole, so that the interval covers it: {again}"
    for m, timing, what, values in _watched(run):
        gap = largest_gap(values)
        if gap is not None and gap > GAP_LIMIT:
            numbers: dict[str, Number] = {
                "gap_ratio": gap,
                "limit_ratio": GAP_LIMIT,
                "what": what,
                "remedy": remedy,
            }
            yield about(kind, m, timing, gap, numbers)


def _watched(run: Run) -> Iterator[tuple[Measurement, Timing, str, list[float]]]:
    """Yield what has one value per clean round and should be the same in all of them."""
    for m, timing in timed_clean(run):
        yield m, timing, "times", block_medians(timing)
    for m in self_checks(run, "one_thread"):
        reference = find_reference(run, m)
        for timing in m.timings if reference else ():
            baseline = None
            if reference:
                baseline = timing_at(reference, timing.batch_size, timing.boundary)
            values = round_ratios(timing, baseline)
            yield m, timing, "speed-ups by threads", values


def _find_reference_differs(run: Run, kind: str) -> Iterator[Advice]:
    for m in self_checks(run, "again"):
        for timing in m.timings:
            found = measure_speedup(run, m, timing.batch_size, timing.boundary)
            off = _distance(found) if found else 0.0
            if found and off:
                numbers: dict[str, Number] = {
                    "off_ratio": abs(off),
                    "direction": "faster" if off > 0 else "slower",
                    "reference": found.reference,
                }
                yield about(kind, m, timing, abs(off), numbers)


def _distance(found: Speedup) -> float:
    """Return how far the reference is from itself: 0 where that may be chance and is small."""
    if found.ratio is None:
        off = (found.floor_ratio or 1.0) - 1
        return off if abs(off) > RESOLUTION else 0.0
    off, low, high = found.ratio.point - 1, found.ratio.low, found.ratio.high
    by_chance = low is None or high is None or low <= 1 <= high
    return 0.0 if by_chance and abs(off) <= RESOLUTION else off


def _find_foreign_load(run: Run, kind: str) -> Iterator[Advice]:
    if run.foreign_load_cores is not None and run.foreign_load_cores > FOREIGN_LIMIT_CORES:
        yield Advice(
            kind,
            severity=run.foreign_load_cores,
            numbers={"cores": run.foreign_load_cores, "limit_cores": FOREIGN_LIMIT_CORES},
        )


def _find_stolen(run: Run, kind: str) -> Iterator[Advice]:
    stolen = median_or_none([b.steal_ratio for b in _blocks(run) if b.steal_ratio is not None])
    if stolen is not None and stolen > STEAL_LIMIT:
        numbers = {"steal_ratio": stolen, "limit_ratio": STEAL_LIMIT}
        yield Advice(kind, severity=stolen, numbers=numbers)


def _find_unobservable(run: Run, kind: str) -> Iterator[Advice]:
    blocks = _blocks(run)
    if blocks and all(block.run_delay_ratio is None for block in blocks):
        remedy = (
            "call nothing faster that differs by less than the self-checks do"
            if self_checks(run, "again")
            else "let the reference be timed against itself: --set compare.self_checks=true"
        )
        yield Advice(kind, numbers={"remedy": remedy})


def _find_impossible(run: Run, kind: str) -> Iterator[Advice]:
    if run.arithmetic is None:
        return
    peaks = {
        (rate.device, rate.precision): 2 * rate.size**3 / min(rate.samples_s)
        for rate in run.arithmetic.matmul_rates
    }
    for m, timing in timed(run):
        peak, median_s = peaks.get((m.requested_device, m.precision)), _median_s(timing)
        if peak is None or median_s is None:
            continue
        share = run.arithmetic.flops_per_image * timing.batch_size / median_s / peak
        if share > THROUGHPUT_LIMIT:
            numbers = {"share_ratio": share, "limit_ratio": THROUGHPUT_LIMIT}
            yield about(kind, m, timing, share, numbers)


def _median_s(timing: Timing) -> float | None:
    return median_or_none([sample for block in timing.blocks for sample in block.samples_s])


def _find_interrupted(run: Run, kind: str) -> Iterator[Advice]:
    if run.interrupted:
        rounds = _rounds_made(run)
        reached = f"after round {rounds}" if rounds else "before anything was timed in rounds"
        yield Advice(kind, numbers={"reached": reached})


def _rounds_made(run: Run) -> str:
    """Return how many rounds were made of those wanted, at each batch size; empty for none."""
    wanted = run.rounds * setting(run, "repeat")
    made: dict[str, int] = {}
    for m in run.measurements:
        for timing in m.timings:
            where = f"batch {timing.batch_size}"
            where += ", device-resident" * (timing.boundary == "device")
            last = max((block.round for block in timing.blocks), default=0)
            made[where] = max(made.get(where, 0), last)
    return "; ".join(f"{last} of {wanted} at {where}" for where, last in made.items())


def _find_resumed(run: Run, kind: str) -> Iterator[Advice]:
    if run.resumed:
        yield Advice(kind, numbers={"sessions_count": len(run.resumed) + 1})


MACHINE_RULES: Mapping[str, Rule] = {
    "interrupted": Rule(
        "latency",
        _find_interrupted,
        "This comparison has not finished: interrupted {reached}. What is missing was not measured "
        "yet; the same bench compare resumes it.",
    ),
    "resumed": Rule(
        "latency",
        _find_resumed,
        "This comparison was interrupted and went on: its rounds were made in {sessions_count} "
        "sessions, each with new processes. No round mixes two; an interval covers them all.",
    ),
    "loaded": Rule(
        "latency",
        _find_loaded,
        "{where}: a loaded machine. In {dirty_count} of {rounds_count} rounds threads waited for a "
        "CPU, up to {worst_ratio} of the time, summed over threads (limit {limit_ratio}); "
        "{use}. Close other programs, or measure when they have ended.",
    ),
    "foreign_load": Rule(
        "latency",
        _find_foreign_load,
        "Other programs kept {cores} cores busy just before the rounds (limit {limit_cores}). They "
        "take memory bandwidth and clock speed even where no thread waits for a CPU: close them, "
        "then measure again.",
    ),
    "stolen": Rule(
        "latency",
        _find_stolen,
        "The hypervisor gave {steal_ratio} of the time, summed over CPUs, to other machines "
        "(limit {limit_ratio}). Nothing inside this machine changes that: measure on one that is "
        "not shared, or at another hour.",
    ),
    "state_changed": Rule(
        "latency",
        _find_state_changed,
        "{where}: the machine changed state meanwhile. The {what} of the rounds fall into two "
        "groups {gap_ratio} apart (limit {limit_ratio}), with nothing else running; no interval "
        "from one state covers the other. {remedy}.",
    ),
    "reference_differs": Rule(
        "latency",
        _find_reference_differs,
        "{where}: the A/A control, {reference} timed a second time in the same rounds, was "
        "{off_ratio} {direction}. Believe no difference up to that size; to learn whether it "
        "lasts, measure again and hold the two runs against each other: bench diff.",
    ),
    "impossible": Rule(
        "latency",
        _find_impossible,
        "{where}: {share_ratio} of the operations that this machine does in matrix products in "
        "the same precision (limit {limit_ratio}), which no kernel does: the record was edited, or "
        "what was timed leaves out work. Measure again.",
    ),
    "unobservable": Rule(
        "latency",
        _find_unobservable,
        "This system does not tell whether threads waited for a CPU, so rounds in which other "
        "programs ran are not left out. Close other programs, and {remedy}.",
    ),
}

"""Warnings about times: how they spread, whether there are enough, and what a call's are worth."""

from collections.abc import Iterator, Mapping
from math import ceil

from foldbench.bench import units
from foldbench.bench.analysis.advice.rule import (
    Advice,
    Number,
    Rule,
    about,
    setting,
    timed,
    timed_clean,
)
from foldbench.bench.analysis.clean import block_medians, clean_blocks, count_clean_rounds
from foldbench.bench.analysis.estimates import (
    MIN_CLEAN_ROUNDS,
    MIN_PROCESSES,
    MIN_ROUNDS_FOR_INTERVAL,
    calls_needed,
    half_width,
    median_or_none,
    percentile,
    relative_drift,
    relative_spread,
)
from foldbench.bench.analysis.ratios import count_processes
from foldbench.bench.analysis.speedups import measure_speedup
from foldbench.bench.records import Measurement, Run, Timing

SPREAD_LIMIT = 0.05
"""Interquartile range of clean block medians, divided by their median."""
DRIFT_LIMIT = 0.03
"""Change of the clean block median from the first to the last third of the rounds."""
TAIL_LIMIT = 3.0
"""The percentile p99, divided by the median."""
TINY_CALL_S = 50e-6
"""Median below which the clock and the call itself are a part of the time that counts."""

WIDTH_LIMIT = 0.01
"""Half-width of an interval, relative to the ratio, up to which a spent budget is no loss."""

_LONGEST_BUDGET_S = 86400


def _more_time(run: Run, timing: Timing, clean_rounds: int) -> str:
    """Return the option for a budget that should do, going by the clean rounds that there were."""
    wanted = run.rounds * max(block.repeat for block in timing.blocks)
    factor = max(2.0, min(10.0, wanted / max(clean_rounds, 1)))
    budget_s = run.budget_s or setting(run, "budget_s")
    return f"--budget {min(_LONGEST_BUDGET_S, 10 * ceil(budget_s * factor / 10))}s"


def _more_rounds(run: Run, timing: Timing, clean_rounds: int) -> str:
    if timing.stopped == "budget":
        return f"give the rounds more time: {_more_time(run, timing, clean_rounds)}"
    return f"set compare.rounds above {run.rounds}"


def _find_noisy(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed_clean(run):
        medians = block_medians(timing)
        spread = relative_spread(medians)
        if spread is not None and spread > SPREAD_LIMIT:
            numbers: dict[str, Number] = {
                "spread_ratio": spread,
                "limit_ratio": SPREAD_LIMIT,
                "rounds_count": len(medians),
                "remedy": _more_rounds(run, timing, len(medians)),
            }
            yield about(kind, m, timing, spread, numbers)


def _find_drifting(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed_clean(run):
        drift = relative_drift(block_medians(timing))
        if drift is not None and abs(drift) > DRIFT_LIMIT:
            numbers = {
                "drift_ratio": abs(drift),
                "direction": "slower" if drift > 0 else "faster",
                "limit_ratio": DRIFT_LIMIT,
            }
            yield about(kind, m, timing, abs(drift), numbers)


def _find_not_steady(run: Run, kind: str) -> Iterator[Advice]:
    warm_up_s = setting(run, "warm_up_s")
    numbers: dict[str, Number] = {
        "setting": units.plain(warm_up_s),
        "longer": units.plain(2 * warm_up_s or 0.5),
    }
    for m, timing in timed(run):
        if timing.steady is False:
            yield about(kind, m, timing, 0.0, numbers)


def _find_few_calls(run: Run, kind: str) -> Iterator[Advice]:
    needed = calls_needed(0.95)
    for m, timing in timed(run):
        blocks = clean_blocks(timing)
        calls = sum(len(block.samples_s) for block in blocks)
        if calls < needed:
            numbers: dict[str, Number] = {
                "calls_count": calls,
                "needed_count": needed,
                "remedy": _more_calls(run, timing, needed),
            }
            yield about(kind, m, timing, needed - calls, numbers)


def _more_calls(run: Run, timing: Timing, needed: int) -> str:
    blocks = clean_blocks(timing)
    spent = timing.stopped == "budget" or timing.shortage is not None
    per_block = ceil(needed / max(run.rounds if spent else len(blocks), 1))
    least = min((len(block.samples_s) for block in blocks), default=0)
    if timing.shortage is not None:
        least = max(least, setting(run, "calls"))
    steps = [f"Set compare.calls={per_block}"] if per_block > least else []
    if spent:
        longer = _more_time(run, timing, count_clean_rounds(timing))
        steps.append(f"Give the rounds more time: {longer}")
    return ". ".join(steps)


def _find_few_rounds(run: Run, kind: str) -> Iterator[Advice]:
    fewest = min(
        (
            found.clean_rounds
            for m, timing in timed(run)
            if (found := measure_speedup(run, m, timing.batch_size, timing.boundary))
            and found.ratio
            and found.ratio.low is None
            and found.reference != m.contender
        ),
        default=MIN_ROUNDS_FOR_INTERVAL,
    )
    if fewest < MIN_ROUNDS_FOR_INTERVAL:
        numbers = {"rounds_count": fewest, "needed_count": MIN_ROUNDS_FOR_INTERVAL}
        yield Advice(kind, numbers=numbers)


def _find_floor_only(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed(run):
        found = measure_speedup(run, m, timing.batch_size, timing.boundary)
        if found and found.ratio is None and found.floor_ratio is not None:
            quiet = found.clean_rounds == found.rounds
            numbers: dict[str, Number] = {
                "clean_count": found.clean_rounds,
                "rounds_count": found.rounds,
                "needed_count": min(MIN_CLEAN_ROUNDS, run.rounds),
                "remedy": "Give" if quiet else "Let other programs end, and give",
                "longer": _more_time(run, timing, found.clean_rounds),
            }
            yield about(kind, m, timing, -found.clean_rounds, numbers)


def _find_budget_spent(run: Run, kind: str) -> Iterator[Advice]:
    wanted = (run.config.get("compare") or {}).get("interval") or WIDTH_LIMIT
    for m, timing in timed(run):
        if timing.stopped != "budget":
            continue
        found = measure_speedup(run, m, timing.batch_size, timing.boundary, alone=True)
        width = half_width(found.ratio) if found and found.ratio else None
        if found and width is not None and width > wanted:
            rounds = run.rounds * max(block.repeat for block in timing.blocks)
            numbers: dict[str, Number] = {
                "budget_s": run.budget_s or setting(run, "budget_s"),
                "clean_count": found.clean_rounds,
                "rounds_count": rounds,
                "width_ratio": width,
                "wanted_ratio": wanted,
                "longer": _more_time(run, timing, found.clean_rounds),
            }
            yield about(kind, m, timing, width, numbers)


def _find_few_processes(run: Run, kind: str) -> Iterator[Advice]:
    asked = (run.config.get("compare") or {}).get("processes") or 1
    for m, timing in timed(run):
        made = count_processes(timing.blocks)
        found = measure_speedup(run, m, timing.batch_size, timing.boundary)
        judged = found is not None and found.ratio is not None
        if judged and timing.stopped == "budget" and made < min(asked, run.rounds, MIN_PROCESSES):
            numbers: dict[str, Number] = {
                "made_count": made,
                "asked_count": asked,
                "longer": _more_time(run, timing, max(1, run.rounds * made // asked)),
            }
            yield about(kind, m, timing, asked - made, numbers)


def _find_stopped_early(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed(run):
        found = measure_speedup(run, m, timing.batch_size, timing.boundary)
        ratio = found.ratio if found else None
        if timing.stopped == "narrow" and ratio and ratio.low is not None:
            numbers: dict[str, Number] = {
                "clean_count": ratio.rounds,
                "rounds_count": run.rounds * max(block.repeat for block in timing.blocks),
            }
            yield about(kind, m, timing, -ratio.rounds, numbers)


def _find_long_tail(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed(run):
        calls = [s for block in clean_blocks(timing) for s in block.samples_s]
        typical_s, p99_s = median_or_none(calls), percentile(calls, 0.99)
        if typical_s and p99_s is not None and p99_s > TAIL_LIMIT * typical_s:
            times = p99_s / typical_s
            numbers = {"p99_s": p99_s, "median_s": typical_s, "times": times}
            yield about(kind, m, timing, times, numbers)


def _find_tiny_call(run: Run, kind: str) -> Iterator[Advice]:
    for m, timing in timed(run):
        median_s = median_or_none(block_medians(timing))
        if median_s and median_s < TINY_CALL_S:
            numbers: dict[str, Number] = {
                "median_s": median_s,
                "limit_s": TINY_CALL_S,
                "remedy": _larger_batch(m, timing, median_s),
            }
            yield about(kind, m, timing, -median_s, numbers)


def _larger_batch(m: Measurement, timing: Timing, median_s: float) -> str:
    others = (t for t in m.timings if t.boundary == timing.boundary)
    long_enough = [
        t.batch_size for t in others if (median_or_none(block_medians(t)) or 0) >= TINY_CALL_S
    ]
    if long_enough:
        return f"Read its row at batch {min(long_enough)} instead"
    larger = timing.batch_size * ceil(2 * TINY_CALL_S / median_s)
    return f"Compare at a larger batch: --set 'compare.batch_sizes=[{larger}]'"


LATENCY_RULES: Mapping[str, Rule] = {
    "floor_only": Rule(
        "latency",
        _find_floor_only,
        "{where}: no speed-up, which takes {needed_count} rounds in which nothing else ran, or one "
        "in each of three processes; {clean_count} of {rounds_count} were such. Marked (best case) "
        "is the ratio of the fastest twentieth of all calls, which has no interval. {remedy} the "
        "rounds more time: {longer}.",
    ),
    "budget_spent": Rule(
        "latency",
        _find_budget_spent,
        "{where}: the budget of {budget_s} was spent after {clean_count} of {rounds_count} clean "
        "rounds, with the interval at ±{width_ratio}. Give the rounds more time: {longer}.",
    ),
    "few_processes": Rule(
        "latency",
        _find_few_processes,
        "{where}: the budget carried {made_count} of {asked_count} processes of each contender, so "
        "its interval does not cover what differs between them. Give it more time: {longer}.",
    ),
    "stopped_early": Rule(
        "latency",
        _find_stopped_early,
        "{where}: the interval is no 95 % interval and covers less, since the rounds stopped as "
        "soon as it was narrow, after {clean_count} of {rounds_count}. This version makes all of "
        "them: compare again.",
    ),
    "few_rounds": Rule(
        "latency",
        _find_few_rounds,
        "No interval of a speed-up is given, and so no verdict: it takes {needed_count} clean "
        "rounds, and there were {rounds_count}. Set compare.rounds to {needed_count} or more.",
    ),
    "few_calls": Rule(
        "latency",
        _find_few_calls,
        "{where}: no p95, which needs {needed_count} calls in clean rounds and had {calls_count}. "
        "{remedy}.",
    ),
    "noisy": Rule(
        "latency",
        _find_noisy,
        "{where}: noisy. The middle half of the medians of {rounds_count} clean rounds spans "
        "{spread_ratio} of their median (limit {limit_ratio}). Close other programs and {remedy}.",
    ),
    "drifting": Rule(
        "latency",
        _find_drifting,
        "{where}: drifting. The last third of the clean rounds was {drift_ratio} {direction} than "
        "the first (limit {limit_ratio}), so the median mixes two states of the machine. Let other "
        "work end or the machine cool, then measure again.",
    ),
    "not_steady": Rule(
        "latency",
        _find_not_steady,
        "{where}: the times had not settled when the first round began, though the warm-up may "
        "take six times compare.warm_up_s={setting}. Set compare.warm_up_s={longer}.",
    ),
    "long_tail": Rule(
        "latency",
        _find_long_tail,
        "{where}: one call in a hundred takes {p99_s} or more, {times} times the median "
        "({median_s}). Where every answer has a deadline, plan with p95 and p99 instead of the "
        "median.",
    ),
    "tiny_call": Rule(
        "latency",
        _find_tiny_call,
        "{where}: a call takes {median_s}, so short that the clock and the way into the library "
        "count as well (limit {limit_s}). {remedy}.",
    ),
}

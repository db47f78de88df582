"""What a cold start takes, part by part, and whose is faster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from foldbench.bench.analysis.estimates import (
    MIN_ROUNDS_FOR_INTERVAL,
    Ratio,
    Verdict,
    bootstrap_interval,
    judge,
)
from foldbench.bench.analysis.ratios import paired_ratio
from foldbench.bench.records import (
    Block,
    ColdStart,
    ColdStarts,
    Measurement,
    PageCache,
    Preparation,
    Run,
)


@dataclass(frozen=True)
class Spread:
    """A median with its 95 % interval, seconds; no interval of fewer than five starts."""

    median_s: float
    low_s: float | None
    high_s: float | None


@dataclass(frozen=True)
class ColdStartRow:
    """One contender's starts with one state of the page cache."""

    contender: str
    page_cache: PageCache
    preparation: Preparation
    count: int
    answer: Spread | None
    """From nothing to the first answer."""
    process: Spread | None
    imports: Spread | None
    opening: Spread | None
    first_call: Spread | None
    second_call: Spread | None
    speedup: Ratio | None
    """How many times faster the first answer is there than the run's first contender's."""
    verdict: Verdict | None
    reason: str | None


def cold_start_rows(run: Run) -> list[ColdStartRow]:
    """Return a row for each contender, state of the page cache and preparation."""
    found = [
        (m, starts)
        for m in run.measurements
        if m.as_called and m.role == "contender"
        for starts in m.as_called.cold_starts
    ]
    rows = []
    for m, starts in found:
        same = [other for _, other in found if other.page_cache == starts.page_cache]
        rows.append(_row(m, starts, same[0]))
    return rows


def _row(m: Measurement, starts: ColdStarts, first: ColdStarts) -> ColdStartRow:
    def spread(read: Callable[[ColdStart], float]) -> Spread | None:
        return _spread([read(one) for one in starts.starts])

    speedup = None if starts is first else paired_ratio(_blocks(starts), _blocks(first))
    return ColdStartRow(
        contender=m.contender,
        page_cache=starts.page_cache,
        preparation=starts.preparation,
        count=len(starts.starts),
        answer=spread(lambda one: one.answer_s),
        process=spread(lambda one: one.process_s),
        imports=spread(lambda one: one.import_s),
        opening=spread(lambda one: one.open_s),
        first_call=spread(lambda one: one.first_call_s),
        second_call=spread(lambda one: one.second_call_s),
        speedup=speedup,
        verdict=judge(speedup, 0.0) if speedup else None,
        reason=starts.reason,
    )


def _blocks(starts: ColdStarts) -> list[Block]:
    """Return each start as a round of a process of its own."""
    return [
        Block(round=n, process=n, samples_s=(one.answer_s,))
        for n, one in enumerate(starts.starts, 1)
    ]


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    found = np.asarray(values, float)
    middle = float(np.median(found))
    if len(values) < MIN_ROUNDS_FOR_INTERVAL:
        return Spread(middle, None, None)
    return Spread(middle, *bootstrap_interval((found,), np.median, 2000, 0))

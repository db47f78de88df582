"""What `bench capacity` prints: the rate that each contender holds, and its latencies by rate."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from foldbench.bench import units
from foldbench.bench.analysis.capacity import rate_rows
from foldbench.bench.records import Beside, Capacity, ContenderCapacity
from foldbench.reports.rows.capacity import capacities_of
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import spoken


def build_capacity(capacity: Capacity) -> Document:
    """Return the tables, with the rates that are held in the answer."""
    answer = (_answer(capacity),)
    return Document(f"Capacity of {capacity.name}", tuple(_sections(capacity)), answer)


def capacity_sections(labelled: Labelled, beside: Sequence[Beside]) -> Iterator[ReportSection]:
    """Yield, for a report, the capacity of each run that has one."""
    for label, capacity in capacities_of(labelled, beside):
        whose = label_in(labelled, label, before=" of ")
        summary, rates = _sections(capacity)
        yield replace(summary, title=f"Capacity{whose}", key="capacity", lead=_answer(capacity))
        yield replace(rates, title=f"Latency by rate{whose}", detail=True)


def _sections(capacity: Capacity) -> tuple[ReportSection, ReportSection]:
    summary = (
        left("contender"),
        right("holds images/s"),
        right("fails images/s"),
        right("call alone ms"),
        left("LoadGen"),
        left("status"),
    )
    rates = (
        left("contender"),
        right("images/s"),
        right("p50 ms"),
        right("p95 ms"),
        right("p99 ms"),
        right("images a call"),
        right("held"),
    )
    return (
        ReportSection(
            "Capacity",
            table=tabulated(summary, [_summary(row) for row in capacity.contenders]),
            caption=_caption(capacity),
        ),
        ReportSection(
            "Latency by rate",
            table=tabulated(rates, list(_rates(capacity))),
            caption="All tests of a rate together, from when each image was due. Held: tests "
            "within the bound.",
        ),
    )


_LOADGEN = "LoadGen: what the standard's load generator (scenario server) says of that rate. "


def _bound(capacity: Capacity) -> str:
    percent = units.plain(round(100 * capacity.at, 3))
    return f"{percent} % of them within {units.duration(capacity.within_s)}"


def _answer(capacity: Capacity) -> str:
    held = [row for row in capacity.contenders if row.holds_per_s]
    if not held:
        return f"No contender holds any rate that was tried with {_bound(capacity)}."
    best = max(held, key=lambda row: row.holds_per_s or 0.0)
    return (
        f"{spoken(best.contender)} answers {units.rate(best.holds_per_s)} images a second with "
        f"{_bound(capacity)}."
    )


def _summary(row: ContenderCapacity) -> list[str]:
    told = row.reason or ("" if row.holds_per_s else "no rate held")
    return [
        row.contender,
        units.rate(row.holds_per_s),
        units.rate(row.fails_per_s),
        units.milliseconds(row.call_s),
        row.loadgen.validity if row.loadgen else "",
        told or row.status,
    ]


def _caption(capacity: Capacity) -> str:
    waits = f", each waiting {units.duration(capacity.wait_s)} at most" if capacity.wait_s else ""
    batch = (
        "one image a call"
        if capacity.most == 1
        else f"batches of up to {units.count(capacity.most)}{waits}"
    )
    loadgen = _LOADGEN if any(row.loadgen for row in capacity.contenders) else ""
    return (
        f"Holds: {_bound(capacity)}, in two of three tests at the most. Arrivals: "
        f"{capacity.arrivals}; {batch}; one process, {units.count(capacity.threads)} threads. "
        f"{loadgen}A figure of this program alone: no network, no decoding."
    )


def _rates(capacity: Capacity) -> Iterator[list[str]]:
    for row in capacity.contenders:
        for rate in rate_rows(row.tests, capacity.at, capacity.within_s):
            yield [
                row.contender,
                units.rate(rate.rate_per_s),
                units.milliseconds(rate.p50_s),
                units.milliseconds(rate.p95_s),
                units.milliseconds(rate.p99_s),
                units.seconds(rate.batch),
                units.out_of(rate.held, rate.tests)
                + (f", {units.count(rate.given_up)} given up" if rate.given_up else ""),
            ]

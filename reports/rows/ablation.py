"""The ablation, step by step from unfolded torch to the shipped file."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from foldbench.bench.analysis.estimates import Ratio, Verdict, judge
from foldbench.bench.analysis.speedups import measure_step
from foldbench.bench.records import Measurement, Run
from foldbench.reports.rows.accuracy import AccuracyRow, accuracy_rows
from foldbench.reports.rows.latency import LatencyRow, host_rows


@dataclass(frozen=True)
class AblationRow:
    """One step on one device at one batch size."""

    step: int
    """0 is where the ladder begins on its device."""
    device: str
    """``cpu`` or ``cuda``: where it ran, or was to run."""
    contender: str
    what: str
    """What the step adds to the one before."""
    batch_size: int
    accuracy: AccuracyRow
    latency: LatencyRow
    before: Ratio | None
    """How many times faster than the step before."""
    verdict: Verdict | None
    """On `before`."""
    start: Ratio | None
    """How many times faster than the first step."""


def ablation_rows(run: Run) -> tuple[AblationRow, ...]:
    """Return the steps at each batch size, each device apart; none for a run without a ladder."""
    return tuple(_rows(run))


def _rows(run: Run) -> Iterator[AblationRow]:
    named = {m.contender: m for m in run.measurements}
    steps = [(one.what, named[one.contender]) for one in run.ladder if one.contender in named]
    accuracies = {row.contender: row for row in accuracy_rows(run)}
    latencies = {(row.contender, row.batch_size): row for row in host_rows(run)}
    sizes = sorted({t.batch_size for _, m in steps for t in m.timings})
    devices = dict.fromkeys(_device(m) for _, m in steps)
    for batch_size, device in product(sizes, devices):
        before: Measurement | None = None
        here = [(what, m) for what, m in steps if _device(m) == device]
        for number, (what, m) in enumerate(here):
            latency = latencies.get((m.contender, batch_size))
            latency = latency or LatencyRow(m.contender, m.status, m.reason)
            ratio = measure_step(run, before, m, batch_size) if before else None
            yield AblationRow(
                step=number,
                device=device,
                contender=m.contender,
                what=what,
                batch_size=batch_size,
                accuracy=accuracies[m.contender],
                latency=latency,
                before=ratio,
                verdict=judge(ratio, latency.noise_floor or 0.0) if ratio else None,
                start=measure_step(run, here[0][1], m, batch_size) if before else None,
            )
            if m.status == "ok":
                before = m


def _device(m: Measurement) -> str:
    return (m.actual_device or m.requested_device).partition(":")[0]

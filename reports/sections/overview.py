"""What a reader sees first: the answer, how far to trust it, and one row for each contender."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from foldbench.bench import units
from foldbench.bench.records import Boundary, Run
from foldbench.reports.rows.accuracy import AccuracyRow, accuracy_rows
from foldbench.reports.rows.latency import LatencyRow, latency_rows
from foldbench.reports.rows.scenarios import scenarios_of
from foldbench.reports.sections.headline import build_headline
from foldbench.reports.sections.notes import Notes
from foldbench.reports.sections.quality import Quality, quality_of
from foldbench.reports.sections.scenarios import build_scenarios
from foldbench.reports.sections.stages import Stage, export_text, parameters_of, stages_of
from foldbench.reports.text.document import ReportSection, left
from foldbench.reports.text.labels import Labelled, describe_several, is_of_networks
from foldbench.reports.text.machines import by_machine
from foldbench.reports.text.names import name_of

_APART = 0.03
"""How far a ratio of medians may be from the speed-up before it is explained."""


@dataclass(frozen=True, order=True)
class Group:
    """The columns of one batch size, those from host to host first."""

    resident: bool
    """Whether within the boundary ``device``."""
    batch_size: int


@dataclass(frozen=True)
class ContenderRow:
    """One contender at every batch size."""

    label: str
    """Of its run; empty where there is one."""
    machine: str
    """Where it ran, the runs included; empty where all ran on one."""
    name: str
    accuracy: AccuracyRow
    timed: Mapping[Group, LatencyRow]
    medians_ratio: Mapping[Group, float]
    """The baseline's median divided by its own, where the speed-up says something else."""

    def is_baseline(self) -> bool:
        """Whether speed-ups on its device are against it."""
        rows = self.timed.values()
        return any(row.speedup_reference == row.contender for row in rows)


@dataclass(frozen=True)
class Overview:
    """The first screen of a report, before it has a form."""

    title: str
    subtitle: str
    labels: str
    """What the labels of rows are."""
    stages: tuple[Stage, ...]
    headline: tuple[str, ...]
    """Sentences: about speed, then about accuracy."""
    quality: Quality | None
    groups: tuple[Group, ...]
    rows: tuple[ContenderRow, ...]
    """Those with times, by machine, the fastest at the smallest batch size first."""
    lost: tuple[tuple[str, str, str], ...]
    """Name, status and reason of each contender that failed."""
    legend: str
    scenarios: ReportSection | None = None
    """What LoadGen measured in place of rounds."""


def build_overview(labelled: Labelled, took_s: float | None = None) -> Overview:
    """Return the first screen of runs; `took_s` is how long the comparison took, if known."""
    machines = by_machine(labelled)
    rows = [
        row
        for machine in machines
        for label, run in machine.runs
        for row in _rows(
            label if len(labelled) > 1 else "", machine.title if len(machines) > 1 else "", run
        )
    ]
    order = [machine.title for machine in machines]
    groups = tuple(sorted({group for row in rows for group in row.timed}))
    ranked = sorted((row for row in rows if row.timed), key=lambda row: _rank(row, groups))
    if len(machines) > 1:
        ranked.sort(key=lambda row: order.index(row.machine))
    return Overview(
        title=_title(labelled),
        subtitle=_subtitle(labelled),
        labels="network" if is_of_networks(labelled) else "run",
        stages=tuple(_stages(labelled, took_s)),
        headline=build_headline(labelled),
        quality=quality_of(labelled),
        groups=groups,
        rows=tuple(ranked),
        lost=tuple(_lost(labelled)),
        legend=_legend(labelled, rows),
        scenarios=_scenarios(labelled),
    )


def _scenarios(labelled: Labelled) -> ReportSection | None:
    if not any(scenarios_of(run) for _, run in labelled):
        return None
    section = next(build_scenarios(left("model"), labelled, Notes()))
    return replace(section, pairs=())


def _title(labelled: Labelled) -> str:
    if len(labelled) > 1:
        return f"{describe_several(labelled)}: {', '.join(label for label, _ in labelled)}"
    return labelled[0][1].name


def _subtitle(labelled: Labelled) -> str:
    _, run = labelled[0]
    data = f"{run.data.title} ({units.count(run.data.test_count)} test images)"
    if len(labelled) > 1:
        return data if len({r.data.sha256 for _, r in labelled}) == 1 else ""
    checkpoint = run.checkpoint
    return ", ".join(part for part in (checkpoint.network, parameters_of(run), data) if part)


def _stages(labelled: Labelled, took_s: float | None) -> Iterator[Stage]:
    if len(labelled) == 1:
        _, run = labelled[0]
        yield from stages_of(run, latency_rows(run), took_s)
        return
    for label, run in labelled:
        text = ", ".join(part for part in (parameters_of(run), export_text(run)) if part)
        yield Stage(label, text)
    yield Stage("compare", describe_several(labelled), took_s) if took_s else Stage("compare", "")


def _rows(label: str, machine: str, run: Run) -> Iterator[ContenderRow]:
    if scenarios_of(run):
        return
    timed: dict[str, dict[Group, LatencyRow]] = {}
    for row in latency_rows(run):
        if row.batch_size is not None and row.median_s is not None:
            group = Group(_is_resident(row.boundary), row.batch_size)
            timed.setdefault(row.contender, {})[group] = row
    for accuracy in accuracy_rows(run):
        own = timed.get(accuracy.contender, {})
        apart = {g: found for g, row in own.items() if (found := _apart(row, g, timed)) is not None}
        name = name_of(accuracy.contender)
        yield ContenderRow(label, machine, name, accuracy, own, apart)


def _is_resident(boundary: Boundary) -> bool:
    return boundary == "device"


def _apart(
    row: LatencyRow, group: Group, timed: Mapping[str, Mapping[Group, LatencyRow]]
) -> float | None:
    """Return the ratio of the medians where it lies outside the interval of the speed-up."""
    baseline = timed.get(row.speedup_reference or "", {}).get(group)
    ratio, low, high = row.speedup_ratio, row.speedup_low, row.speedup_high
    if baseline is None or None in (ratio, low, high, baseline.median_s, row.median_s):
        return None
    found = (baseline.median_s or 0.0) / (row.median_s or inf)
    outside = not (low or 0.0) <= found <= (high or inf)
    return found if outside and abs(found / (ratio or 1.0) - 1) > _APART else None


def _rank(row: ContenderRow, groups: Sequence[Group]) -> tuple[float, ...]:
    medians = (row.timed[group].median_s if group in row.timed else None for group in groups)
    return tuple(inf if median is None else median for median in medians)


def _lost(labelled: Labelled) -> Iterator[tuple[str, str, str]]:
    for label, run in labelled:
        for row in accuracy_rows(run):
            if row.status == "failed":
                name = name_of(row.contender)
                shown = f"{label}: {name}" if len(labelled) > 1 else name
                yield shown, row.status, row.reason or "no reason was recorded"


def _legend(labelled: Labelled, rows: Sequence[ContenderRow]) -> str:
    """Return what holds for all rows: the boundary, threads and the machine."""
    parts = ["ms per call, host to host"]
    threads = sorted({row.accuracy.threads for row in rows if row.accuracy.threads})
    if threads:
        plural = "s" * (threads != [1])
        parts.append(f"{' or '.join(map(str, threads))} thread{plural}")
    for key in ("cpu", "gpu"):
        found = [run.environment.get(key) for _, run in labelled]
        parts += dict.fromkeys(str(one) for one in found if one)
    return ", ".join(parts)

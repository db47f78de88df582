"""Runs of one configuration over time, those of one machine together.

Every speed-up is a ratio within one run, so within one machine; runs of different machines are in
groups of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foldbench.bench.analysis.estimates import Verdict
from foldbench.bench.records import Run
from foldbench.reports.rows.accuracy import accuracy_rows
from foldbench.reports.rows.latency import host_rows
from foldbench.reports.text.machines import machine_of, machines_of


@dataclass(frozen=True)
class HistoryPoint:
    """One contender at one batch size in one run; shares of 1 and seconds."""

    config: str
    machine: str
    run: str
    created: str
    contender: str
    batch_size: int
    reference: str | None
    median_s: float | None
    speedup_ratio: float | None
    speedup_low: float | None
    speedup_high: float | None
    verdict: Verdict | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None


@dataclass(frozen=True)
class RunGroup:
    """The runs of one configuration on one machine, oldest first."""

    config: str
    machine: str
    runs: tuple[Run, ...]
    points: tuple[HistoryPoint, ...]

    @property
    def title(self) -> str:
        """What tells it from other groups."""
        return f"{self.config} on {self.machine}"

    def series(self) -> dict[tuple[str, int], list[HistoryPoint]]:
        """Return the points of each contender and batch size, oldest first."""
        found: dict[tuple[str, int], list[HistoryPoint]] = {}
        for point in self.points:
            found.setdefault((point.contender, point.batch_size), []).append(point)
        return found

    def accuracies(self) -> dict[str, list[HistoryPoint]]:
        """Return one point a run of each contender that was scored, oldest first."""
        found: dict[str, dict[str, HistoryPoint]] = {}
        for point in self.points:
            if point.accuracy is not None:
                found.setdefault(point.contender, {}).setdefault(point.run, point)
        return {contender: list(by_run.values()) for contender, by_run in found.items()}


def group_runs(runs: Sequence[Run]) -> tuple[RunGroup, ...]:
    """Return the runs by configuration and machine; raise ValueError when there are none."""
    if not runs:
        raise ValueError("a history needs at least one run")
    ordered = sorted(runs, key=lambda run: (run.created, run.name))
    configs = dict.fromkeys(run.checkpoint.config_name for run in ordered)
    groups = []
    for config in configs:
        own = [run for run in ordered if run.checkpoint.config_name == config]
        for machine in machines_of(own):
            here = tuple(run for run in own if machine_of(run) == machine)
            points = tuple(point for run in here for point in _points(run, machine))
            groups.append(RunGroup(config, machine, here, points))
    return tuple(groups)


def _points(run: Run, machine: str) -> Iterator[HistoryPoint]:
    scored = {row.contender: row for row in accuracy_rows(run)}
    for row in host_rows(run):
        if row.batch_size is not None:
            share = scored[row.contender]
            yield HistoryPoint(
                config=run.checkpoint.config_name,
                machine=machine,
                run=run.name,
                created=run.created,
                contender=row.contender,
                batch_size=row.batch_size,
                reference=row.speedup_reference,
                median_s=row.median_s,
                speedup_ratio=row.speedup_ratio,
                speedup_low=row.speedup_low,
                speedup_high=row.speedup_high,
                verdict=row.verdict,
                accuracy=share.accuracy,
                accuracy_low=share.low,
                accuracy_high=share.high,
            )

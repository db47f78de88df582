"""A row of the homework's table, and the rows of its three networks for CIFAR-10."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foldbench.bench.analysis.error_overlap import representative
from foldbench.bench.analysis.statistics import balanced_accuracy, wilson_interval
from foldbench.bench.records import Run
from foldbench.reports.rows.accuracy import AccuracyRow, scored_rows
from foldbench.reports.rows.homework import deviations, reference_for, references
from foldbench.reports.text import units

PROTOCOLS = ("homework", "clean")


@dataclass(frozen=True)
class HomeworkRow:
    """One figure of the homework, and ours."""

    problem: str
    system: str
    protocol: str | None
    homework_accuracy: float | None = None
    """As reported, once; only beside the protocol that it was measured with."""
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    """`accuracy` minus the homework's, whichever protocol that was measured with."""
    training_s: float | None = None
    """All epochs of the run, or of one of several seeds in the mean."""
    trained_on: str | None = None
    """What the training had at its end: a GPU, or so many cores of the CPU."""
    balanced: float | None = None
    """Mean over the classes of the share of each class's images that are right: what the homework
    calls mean-per-class accuracy, and does not compute."""
    run: str | None = None
    seeds: tuple[float, ...] = ()
    """Accuracy of each run, where `accuracy` is the mean of several that differ in the seed."""
    remark: str = ""
    """How the run differs, or what to do where there is none."""


def cifar_rows(model: str, runs: Sequence[Run]) -> Iterator[HomeworkRow]:
    """Yield the network trained as the homework trained it, then every other configuration."""
    known = references()[model]
    measured = [
        run
        for run in runs
        if run.checkpoint.model == model
        and reference_for(run.checkpoint) is not None
        and measured_of(run) is not None
    ]
    own = [run for run in measured if protocol_of(run) == "homework"]
    for protocol in PROTOCOLS:
        theirs = known.accuracy if protocol == "homework" else None
        row = HomeworkRow(known.problem, known.title, protocol, theirs)
        found = [run for run in own if run.evaluation_protocol == protocol]
        if found:
            yield _of_seeds(row, found, known.accuracy)
        else:
            command = f"bench run {model} --set evaluate.protocol={protocol}"
            yield replace(row, remark=f"Not measured yet: {command}")
    others: dict[tuple[str, str], list[Run]] = {}
    for run in measured:
        if protocol_of(run) != "homework":
            key = (run.checkpoint.config_name, run.evaluation_protocol)
            others.setdefault(key, []).append(run)
    for (name, protocol), found in others.items():
        row = HomeworkRow(known.problem, f"{known.title} by {name}", protocol)
        yield _of_seeds(row, found, known.accuracy)


def _of_seeds(row: HomeworkRow, runs: Sequence[Run], theirs: float) -> HomeworkRow:
    """Return the row of the first of `runs`, in the mean over those that differ in the seed alone.

    The interval of a mean is that of its test images, which are the same for every seed.
    """
    per_seed: dict[int, Run] = {}
    for run in runs:
        if _recipe_of(run) == _recipe_of(runs[0]):
            per_seed.setdefault(run.checkpoint.seed, run)
    measured = [(run, found) for run in per_seed.values() if (found := measured_of(run))]
    accuracies = tuple(found.accuracy for _, found in measured if found.accuracy is not None)
    count = len(deviations(runs[0]))
    differs = f"{count} deviations: bench report {runs[0].name}" if count else ""
    if len(accuracies) == 1:
        return filled(row, runs[0], differs, theirs)
    mean = sum(accuracies) / len(accuracies)
    images = measured[0][1].total or 0
    low, high = wilson_interval(round(mean * images), images)
    each = ", ".join(units.percent(accuracy) for accuracy in accuracies)
    return replace(
        row,
        accuracy=mean,
        low=low,
        high=high,
        difference=mean - theirs,
        training_s=sum(_training_s(run) for run, _ in measured) / len(measured),
        trained_on=_trained_on([run for run, _ in measured]),
        run=", ".join(run.name for run, _ in measured),
        seeds=accuracies,
        remark=f"Mean of {len(accuracies)} seeds: {each} %. {differs}".rstrip(),
    )


def _recipe_of(run: Run) -> tuple[Any, ...]:
    """Return what two runs have in common that differ in their seed alone."""
    config = run.checkpoint.config
    settings = [config.get("model"), config.get("train"), config.get("data", {}).get("subset")]
    return settings, run.checkpoint.data.sha256, run.evaluation_protocol


def _training_s(run: Run) -> float:
    return sum(epoch.duration_s for epoch in run.checkpoint.history)


def _trained_on(runs: Sequence[Run]) -> str:
    """Return the GPUs by name and the numbers of cores, such as ``1 or 2 cores``."""
    checkpoints = [run.checkpoint for run in runs]
    gpus = {c.device for c in checkpoints if c.device != "cpu"}
    environments = [c.environment for c in checkpoints if c.device == "cpu"]
    cores = sorted({e["cores_usable"] for e in environments if "cores_usable" in e})
    unit = "" if not cores else " core" if cores == [1] else " cores"
    return (" or ".join([*sorted(gpus), *map(str, cores)]) or "cpu") + unit


def protocol_of(run: Run) -> str:
    """Return the protocol that the run was trained by."""
    return str(run.checkpoint.config.get("train", {}).get("protocol", "clean"))


def measured_of(run: Run) -> AccuracyRow | None:
    """Return the row that stands for the run, None where nothing was scored."""
    return next(iter(scored_rows(run)), None)


def _balanced(run: Run) -> float | None:
    """Return the balanced accuracy of a transfer; None for other networks and older records."""
    if run.checkpoint.transfer is None or not run.labels:
        return None
    _, accuracy = representative(run)
    return balanced_accuracy(run.labels, accuracy.top1, len(run.checkpoint.classes))


def filled(row: HomeworkRow, run: Run, remark: str, theirs: float | None = None) -> HomeworkRow:
    """Return the row with what `run` gave; `theirs` is the homework's figure to subtract."""
    found = measured_of(run)
    if found is None or found.accuracy is None:
        return row
    return replace(
        row,
        accuracy=found.accuracy,
        low=found.low,
        high=found.high,
        difference=None if theirs is None else found.accuracy - theirs,
        training_s=_training_s(run),
        trained_on=_trained_on([run]),
        balanced=_balanced(run),
        run=run.name,
        remark=remark,
    )

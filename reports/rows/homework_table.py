"""All that the homework reports of networks, beside what runs here gave, or how to get it.

A figure stands here only where a run measured it. Each problem has two rows: its code as it ran
(protocol homework), and the same done cleanly; recipes of our own have rows of theirs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foldbench.bench import units
from foldbench.bench.analysis.error_overlap import compare_errors, representative
from foldbench.bench.analysis.estimates import balanced_accuracy, wilson_interval
from foldbench.bench.errors import RunError
from foldbench.bench.records import Run
from foldbench.reports.rows.accuracy import AccuracyRow, scored_rows
from foldbench.reports.rows.homework import deviations, other_figures, reference_for, references

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


_PETS_IMAGES = 7349
"""In the published lists of Oxford-IIIT Pet; its folder has a few more."""
_PETS_CLASSES = {"homework": 35, "clean": 37}


def homework_rows(runs: Sequence[Run]) -> tuple[HomeworkRow, ...]:
    """Return every row of the homework, filled from the newest of `runs` that measured it.

    Runs of other pretrained networks or on a sample of the pets come after the problem they stand
    for, without a figure of the homework beside them.
    """
    newest = sorted(runs, key=lambda run: run.created, reverse=True)
    rows = [_photograph(), _feature_maps(), *_transfer_rows("3", newest)]
    rows += [row for model in references() for row in cifar_rows(model, newest)]
    overlaps = [_overlap(newest, protocol) for protocol in PROTOCOLS]
    return (*rows, *_transfer_rows("5", newest), *overlaps, *_stand_ins(newest))


def _photograph() -> HomeworkRow:
    known = other_figures()["2.1"]
    name, probability = known["top3"][0]
    return HomeworkRow(
        "2.1",
        f"ResNet-50 on {known['data']}",
        None,
        remark=f"{name} {units.probability(probability)} in the homework. Needs ImageNet "
        "weights: bench predict "
        "resnet50 IMAGE --weights IMAGENET1K_V1 --download",
    )


def _feature_maps() -> HomeworkRow:
    known = other_figures()["2.2"]
    return HomeworkRow(
        "2.2",
        f"ResNet-50 feature maps, {known['data']}",
        None,
        remark=f"{known['maps']} maps of each of {', '.join(known['layers'])}: pictures, no "
        "figure. Needs ImageNet weights: bench features resnet50 IMAGE --weights IMAGENET1K_V1 "
        "--download",
    )


def _transfer_rows(problem: str, runs: Sequence[Run]) -> Iterator[HomeworkRow]:
    known = other_figures()[problem]
    for protocol in PROTOCOLS:
        theirs = known["accuracy"] if protocol == "homework" else None
        row = HomeworkRow(problem, f"{known['title']}, {known['data']}", protocol, theirs)
        found = next((run for run in runs if _is_of(run, known, protocol)), None)
        if found is None:
            config = known["config"] + ("_homework" if protocol == "homework" else "")
            need = f"Needs ImageNet weights: bench run {config} --download --set data.download=true"
            yield replace(row, remark=need)
        else:
            yield filled(row, found, "files in order of name, not of the folder", known["accuracy"])


def _overlap(runs: Sequence[Run], protocol: str) -> HomeworkRow:
    """Return the row of the errors of both networks on the same images, counted if both ran."""
    transformer, cnn = other_figures()["5"], other_figures()["3"]
    row = HomeworkRow("5", "errors of both on the same images", protocol)
    found = [
        next((run for run in runs if _is_of(run, known, protocol)), None)
        for known in (transformer, cnn)
    ]
    theirs = _overlap_there(transformer) if protocol == "homework" else ""
    a, b = found
    if a is None or b is None:
        ending = "_homework" if protocol == "homework" else ""
        need = f"Needs both runs: bench errors {transformer['config']}{ending} "
        return replace(row, remark=f"{theirs}{need}{cnn['config']}{ending}")
    try:
        here = compare_errors(a, b, np.array(a.labels or ()))
    except RunError as error:
        return replace(row, remark=f"{theirs}{error}")
    counts = _counts(here.only_a, here.only_b, here.both, here.images)
    return replace(row, run=f"{a.name}, {b.name}", remark=f"{theirs}Here {counts}.")


def _overlap_there(known: Mapping[str, Any]) -> str:
    counts = (known["only_transformer_wrong"], known["only_cnn_wrong"], known["both_wrong"])
    return f"In the homework {_counts(*counts, known['test_images'])}. "


def _counts(only_transformer: int, only_cnn: int, both: int, images: int) -> str:
    return (
        f"{units.count(only_transformer)} images that only the transformer gets wrong, "
        f"{units.count(only_cnn)} only the CNN, {units.count(both)} both, of {units.count(images)}"
    )


def _stand_ins(runs: Sequence[Run]) -> Iterator[HomeworkRow]:
    """Yield the newest run of each configuration that is no problem's own but of its kind."""
    seen = set()
    own = [other_figures()[problem] for problem in ("3", "5")]
    for run in runs:
        transfer = run.checkpoint.transfer
        if transfer is None or measured_of(run) is None or run.checkpoint.config_name in seen:
            continue
        if any(_is_of(run, known, protocol) for known in own for protocol in PROTOCOLS):
            continue
        seen.add(run.checkpoint.config_name)
        data = run.checkpoint.data
        counts = f"{units.count(data.train_count)} + {units.count(data.test_count)}"
        images = f"{len(data.classes)} classes, {counts} images"
        row = HomeworkRow("like 3", f"{run.checkpoint.network}, {images}", protocol_of(run))
        yield filled(
            row, run, f"{data.title}: other images or another network, no figure beside it"
        )


def _is_of(run: Run, known: Mapping[str, Any], protocol: str) -> bool:
    """Return whether `run` is the problem's network on all of the pets, by this protocol."""
    data = run.checkpoint.data
    return (
        run.checkpoint.transfer is not None
        and run.checkpoint.network == known["arch"]
        and protocol_of(run) == protocol
        and len(data.classes) == _PETS_CLASSES[protocol]
        and data.train_count + data.test_count >= _PETS_IMAGES
        and measured_of(run) is not None
    )

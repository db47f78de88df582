"""All that the homework reports of networks, beside what runs here gave, or how to get it.

A figure stands here only where a run measured it. Each problem has two rows: its code as it ran
(protocol homework), and the same done cleanly; recipes of our own have rows of theirs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from foldbench.bench.analysis.error_overlap import compare_errors
from foldbench.bench.errors import RunError
from foldbench.bench.records import Run
from foldbench.reports.commands.homework_rows import (
    PROTOCOLS,
    HomeworkRow,
    cifar_rows,
    filled,
    measured_of,
    protocol_of,
)
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.rows.homework import other_figures, references
from foldbench.reports.text import units
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated

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


def render_homework(rows: Sequence[HomeworkRow], markdown: bool = False) -> str:
    """Return the table, ending in a newline."""
    balanced = any(row.balanced is not None for row in rows)
    columns = (
        left("problem"),
        left("system"),
        left("protocol"),
        right("homework %"),
        right("here %"),
        right("95 % interval"),
        right("difference"),
        *((right("balanced %"),) if balanced else ()),
        right("training"),
        left("on"),
        left("run"),
        right("note"),
    )
    remarks = list(dict.fromkeys(row.remark for row in rows if row.remark))
    cells = [
        [
            row.problem,
            row.system,
            row.protocol or "",
            units.percent(row.homework_accuracy),
            units.percent(row.accuracy),
            units.span(units.percent(row.low), units.percent(row.high)),
            units.points(row.difference),
            *((units.percent(row.balanced),) if balanced else ()),
            units.long_duration(row.training_s),
            row.trained_on or "",
            row.run or "",
            str(remarks.index(row.remark) + 1) if row.remark else "",
        ]
        for row in rows
    ]
    section = ReportSection(
        "Accuracy",
        table=tabulated(columns, cells),
        caption="homework: as its code ran, quirks included; clean: done as it should be. "
        "Interval: Wilson's, for the test images drawn. Difference: in points, from the "
        "homework's figure, which is of its own protocol. Training: all epochs of one run, "
        "and what it had at its end. "
        + (
            "Balanced: mean over classes; the homework gives plain accuracy and calls it "
            "mean-per-class. "
            if balanced
            else ""
        )
        + "An empty figure was not measured here.",
    )
    sections = (section, ReportSection("Notes", notes=tuple(remarks)))
    document = Document("The homework's figures, and what was measured here", sections)
    return render_markdown(document) if markdown else render_terminal(document)


def homework_json(rows: Sequence[HomeworkRow]) -> list[dict[str, Any]]:
    """Return the rows as JSON types, unrounded."""
    return [asdict(row) for row in rows]


def _photograph() -> HomeworkRow:
    known = other_figures()["2.1"]
    name, probability = known["top3"][0]
    return HomeworkRow(
        "2.1",
        f"ResNet-50 on {known['data']}",
        None,
        remark=f"{name} {probability:.4f} in the homework. Needs ImageNet weights: bench predict "
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
        images = f"{len(data.classes)} classes, {data.train_count:,} + {data.test_count:,} images"
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

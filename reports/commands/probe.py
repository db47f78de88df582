"""Protocols of transfer learning side by side: the text and the JSON of `bench probe`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.estimates import wilson_interval
from foldbench.bench.analysis.probes import BatchNormEffect, Probe
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated

_BATCHNORM = {"running": "eval mode", "per_image": "train mode", None: "none"}


def render_probes(
    probes: Sequence[Probe], effects: Sequence[BatchNormEffect], markdown: bool = False
) -> str:
    """Return the tables, ending in a newline."""
    weights = ", ".join(dict.fromkeys(p.record.weights for p in probes))
    sections = [_accuracy(probes), *([_effects(effects)] if effects else []), _data(probes)]
    document = Document(f"Linear classifiers on frozen features ({weights})", tuple(sections))
    return render_markdown(document) if markdown else render_terminal(document)


def probes_json(probes: Sequence[Probe], effects: Sequence[BatchNormEffect]) -> dict[str, Any]:
    """Return the figures as JSON types, unrounded."""
    return {
        "probes": [
            {
                "config": p.config_name,
                "batchnorm": p.batchnorm,
                "classifier": p.classifier,
                "as_configured": p.as_configured,
                "resize": p.resize,
                "data": p.data.model_dump(mode="json"),
                "transfer": p.record.model_dump(mode="json"),
            }
            for p in probes
        ],
        "batchnorm_effects": [asdict(effect) for effect in effects],
    }


def _accuracy(probes: Sequence[Probe]) -> ReportSection:
    rows = []
    for p in probes:
        correct, count = p.record.test_correct, p.record.test_count
        low, high = wilson_interval(correct, count)
        rows.append(
            [
                p.config_name,
                _BATCHNORM[p.batchnorm],
                p.classifier,
                units.percent(correct / count),
                units.span(units.percent(low), units.percent(high)),
                units.percent(p.record.test_balanced_accuracy),
                units.count(p.record.feature_count),
                "yes" if p.as_configured else "",
            ]
        )
    columns = (
        left("config"),
        left("BatchNorm"),
        left("classifier"),
        right("accuracy %"),
        right("95 % interval"),
        right("balanced %"),
        right("features"),
        left("as configured"),
    )
    return ReportSection(
        "Accuracy on the test split",
        table=tabulated(columns, rows),
        caption="Train mode is one image at a time, as in the homework: each image is normalised "
        "by its own statistics. Balanced: mean over classes; the homework gives plain accuracy and "
        "calls it mean-per-class.",
    )


def _effects(effects: Sequence[BatchNormEffect]) -> ReportSection:
    rows = [
        [
            e.config_name,
            e.classifier,
            units.points((e.only_running_wrong - e.only_per_image_wrong) / e.images),
            units.count(e.only_per_image_wrong),
            units.count(e.only_running_wrong),
            units.count(e.both_wrong),
            units.probability(e.p_value),
        ]
        for e in effects
    ]
    columns = (
        left("config"),
        left("classifier"),
        right("train − eval"),
        right("only train wrong"),
        right("only eval wrong"),
        right("both wrong"),
        right("McNemar p"),
    )
    return ReportSection(
        "What train-mode BatchNorm alone does",
        table=tabulated(columns, rows),
        caption="Percentage points and test images; weights, images, split and classifier alike.",
    )


def _data(probes: Sequence[Probe]) -> ReportSection:
    facts = {
        p.config_name: (
            f"{p.data.title}; {units.count(p.data.train_count)} training and "
            f"{units.count(p.data.test_count)} test images of {units.count(len(p.data.classes))} "
            f"classes, {p.resize}"
        )
        for p in probes
    }
    return ReportSection("Images", pairs=tuple(facts.items()))

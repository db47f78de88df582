"""What an export made and what was proven about it: the text and the JSON of `bench export`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foldbench.bench import units
from foldbench.bench.predict.image_model import ImageModel
from foldbench.bench.records import Artifact, QuantizationReport
from foldbench.reports.text.folding import tell_cost, tell_folds
from foldbench.reports.text.parity import PARITY_REFERENCES

_NORMALISED = {
    (): "mean and std are part of the first layer's weights",
    ("mean",): "std is part of the first layer's weights; the mean is subtracted before it, since "
    "the zeros that it puts around its input would not be the mean",
    ("mean", "std"): "mean and std are applied before the first layer",
}
_SHOWN = 3
"""How many of the things that folding left are named."""


def render_artifact(folder: Path, artifact: Artifact) -> str:
    """Return where the file is in the run's `folder` and what was proven, ending in a newline."""
    return f"{folder / artifact.path}\n" + "".join(f"  {line}\n" for line in _lines(artifact))


def artifact_json(folder: Path, artifact: Artifact) -> dict[str, Any]:
    """Return the artifact of the run in `folder` as JSON types."""
    return {
        "run": folder.name,
        "path": str(folder / artifact.path),
        "artifact": artifact.model_dump(mode="json"),
    }


def render_image_model(folder: Path, model: ImageModel) -> str:
    """Return where the file with preprocessing inside is, and how close it is to the one without.

    The text ends in a newline.
    """
    before = model.applied_before
    told = "" if before is None else f"  {_NORMALISED[before]}\n"
    return (
        f"{folder / model.path}\n"
        "  uint8 image in, probabilities out; against preprocessing outside, on "
        f"{units.count(model.images)} images: {units.count(model.top1_equal)} predictions "
        "identical, largest difference of a probability "
        f"{units.error(model.max_difference)}\n"
        f"{told}"
    )


def _lines(artifact: Artifact) -> Iterator[str]:
    fold, parity = artifact.fold, artifact.parity
    before = "given file" if parity.of_a_file else "module"
    yield (
        f"BatchNorm: {fold.batchnorms_before} in the {before}, {fold.batchnorms_after} after "
        f"folding, {artifact.batchnorm_nodes} in the file "
        f"(folded by {' and '.join(artifact.folded_by) or 'none'})"
    )
    if told := tell_folds(fold):
        yield f"also folded: {told}"
    if cost := tell_cost(fold):
        yield f"folding: {cost}"
    for skip in fold.skipped[:_SHOWN]:
        yield f"left as it is: {skip.module or 'the network'}: {skip.reason}"
    if len(fold.skipped) > _SHOWN:
        yield f"left as they are: {units.count(len(fold.skipped) - _SHOWN)} more (--json lists all)"
    for done in artifact.passes:
        yield f"pass {done.name}: {done.detail}"
    for one in artifact.tried:
        which = f"with {' and '.join(one.passes)} alone" if one.passes else "without them"
        factor, interval = units.estimate(one.speedup, one.low, one.high)
        told = f"{factor} times as fast ({interval})" if interval else "too few calm rounds"
        yield f"passes for this machine, {which}, at batch size {one.batch_size}: {told}"
    if fold.agreement:
        a = fold.agreement
        yield (
            f"folded against unfolded: largest difference {units.error(a.max_abs_difference)} "
            f"({units.error(a.max_rel_difference)} of the largest logit), "
            f"{units.count(a.top1_equal)} of {units.count(a.images)} predictions identical"
        )
    verdict = "passed" if parity.passed else f"FAILED: {parity.reason}"
    of = "" if artifact.quantization is None else " of the float32 file"
    how = PARITY_REFERENCES[parity.reference]
    yield f"parity{of} with {how}: {verdict} ({len(parity.cases)} kinds of input)"
    if artifact.quantization is not None:
        yield from _quantization(artifact.precision, artifact.quantization)


def _quantization(precision: str, report: QuantizationReport) -> Iterator[str]:
    c = report.closeness
    for trial in report.trials:
        t = trial.closeness
        yield (
            f"ranges by {trial.method}: accuracy {units.points(-t.drop_points() / 100)} points, KL "
            f"{units.error(t.kl_nats)}{' (taken)' if trial.method == report.method else ''}"
        )
    together = sum(node.alone is None for node in report.nodes)
    if together:
        yield f"all {units.count(together)} nodes in {precision}: together they keep the limit"
    for node in report.nodes:
        if node.alone is None:
            continue
        where = precision if node.quantized else "float32"
        yield f"{node.node}: {where} (alone KL {units.error(node.alone.kl_nats)}; {node.reason})"
    if report.tables:
        yield f"{report.tables} chains of element-wise operators written as tables"
    untrained = report.untrained_images
    held_out = f" ({units.count(untrained)} held out while training)" if untrained else ""
    yield (
        f"{precision} against float32: {units.count(c.correct_after)} instead of "
        f"{units.count(c.correct_before)} right of {units.count(c.images)} images that no range "
        f"follows from{held_out}, "
        f"{units.count(c.top1_equal)} predictions identical, largest difference "
        f"{units.error(c.max_rel_difference)} of the largest logit"
    )
    verdict = "kept" if report.within_budget else f"EXCEEDED: {report.reason}"
    yield f"budget of {units.plain(report.max_drop_points)} percentage points: {verdict}"

"""Export a run: the file that is shipped, and the steps of the ablation on the way to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from foldbench.bench.backends import Floats
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import BackendError, ExportError
from foldbench.bench.images.classes import match_classes
from foldbench.bench.images.image_set import ImageSet
from foldbench.bench.images.loading import load_data
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.images.splits import spread
from foldbench.bench.measure.ablation import BARE, BATCHNORM, folds_beyond_batchnorm
from foldbench.bench.measure.contenders import has_user_code, is_file_alone
from foldbench.bench.predict.image_model import ImageModel, export_image_model
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import GIVEN, Artifact, Checkpoint
from foldbench.bench.stages.measured_passes import choices_of, measure_passes, refuse_other_targets
from foldbench.bench.stages.quantize import quantize, refuse_contradictions, source_target
from foldbench.bench.stages.settings import settings_of
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.workers.isolated import run_isolated

if TYPE_CHECKING:
    from torch import nn

    from foldbench.exporters.export import ExportOptions
    from foldbench.exporters.parity import ParityInput


def export(
    run: RunDirectory,
    overrides: Sequence[str],
    paths: Paths,
    listener: ProgressListener,
) -> Artifact:
    """Export the run's network as its configuration says, overridden by `overrides`.

    Returns the artifact in the precision asked for; one in float32 is always made, too. Code of the
    user's runs in a process of its own.
    """
    work = (run, tuple(overrides), paths)
    if has_user_code(run.checkpoint()):
        return run_isolated(_export, *work, listener=listener)
    return _export(*work, listener)


def try_export(
    run: RunDirectory, overrides: Sequence[str], paths: Paths, listener: ProgressListener
) -> str | None:
    """Export a run; return why there is no file of it, which `listener` hears, else None.

    Raises what `export` raises where there is a file all the same.
    """
    try:
        export(run, overrides, paths, listener)
    except (ExportError, BackendError) as error:  # the latter where its code ends the process
        if run.artifacts():
            raise
        listener.note(f"{run.name}: {error}")
        return f"could not be exported: {error}"
    return None


def _export(
    run: RunDirectory, overrides: Sequence[str], paths: Paths, listener: ProgressListener
) -> Artifact:
    prepared = prepare_export(run, overrides, paths, listener)
    artifact = export_shipped(prepared, listener)
    if prepared.config.export.quantize == "none":
        return artifact
    return quantize(run, prepared.checkpoint, prepared.config, prepared.data, artifact, listener)


@dataclass(frozen=True)
class Exporting:
    """What the exports of one run have in common."""

    run: RunDirectory
    checkpoint: Checkpoint
    config: Config
    data: ImageSet
    module: "nn.Module | None"
    """In eval mode; None for an .onnx file without one."""
    images: Floats
    """Preprocessed test images (n, C, H, W) float32, on which everything is proven."""
    options: "ExportOptions"
    """As the configuration has them."""

    @cached_property
    def reference(self) -> "tuple[ParityInput, ...]":
        """What the network itself answers, which every file of it is held against."""
        from foldbench.exporters.onnx_export import read_reference
        from foldbench.exporters.parity import run_reference

        if self.module is None:
            return read_reference(self.run.path / self.checkpoint.weights, self.images)
        return run_reference(self.module, self.images)

    def make(self, options: "ExportOptions", folder: Path) -> Artifact:
        """Export with `options` into ``folder/artifacts``; raise ExportError if that fails."""
        from foldbench.exporters.export import export_checkpoint
        from foldbench.exporters.onnx_export import export_onnx_subject

        common = self.checkpoint, folder, self.images, options, self.reference
        if self.module is None:
            return export_onnx_subject(self.run.path / self.checkpoint.weights, *common)
        return export_checkpoint(self.module, *common)


def prepare_export(
    run: RunDirectory, overrides: Sequence[str], paths: Paths, listener: ProgressListener
) -> Exporting:
    """Load what an export needs."""
    from foldbench.exporters.export import ExportOptions
    from foldbench.exporters.rewriting import choose_passes
    from foldbench.models.building.checkpoint import load_checkpoint

    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    refuse_contradictions(config.export)
    refuse_other_targets(config.export)
    alone = is_file_alone(checkpoint)
    module = None if alone else load_checkpoint(checkpoint, run.path)
    needs_train = config.export.quantize != "none"
    data = load_data(config.data, paths.cache, listener, needs_train)
    data = match_classes(checkpoint.classes, data, listener, checkpoint.class_ids)
    pixels = data.test.images[spread(len(data.test), config.export.images)]
    images = preprocess(pixels, checkpoint.preprocessing)
    asked = config.export
    target = source_target(asked)
    passes = choose_passes(asked.passes, target, asked.fold_bn)
    options = ExportOptions(asked.fold_bn, asked.opset, passes, target, given=alone)
    return Exporting(run, checkpoint, config, data, module, images, options)


def export_shipped(prepared: Exporting, listener: ProgressListener) -> Artifact:
    """Export as the configuration says, and what that is compared with; return the former."""
    from foldbench.exporters.export import given_options, plan_baselines

    options, asked = prepared.options, prepared.config.export
    shipped = export_with(prepared, options, listener)
    if asked.measure and shipped.parity.passed:
        shipped = _ship_fastest(prepared, shipped, listener)
    others = [given_options(options)] if options.given else []
    if asked.baselines:
        others += plan_baselines(options, asked.passes, shipped)
    for other in others:
        try:
            export_with(prepared, other, listener)
        except ExportError as error:
            if options.given:
                raise
            listener.note(f"{prepared.run.name} ({other.variant}): {error}")
    return shipped


def _ship_fastest(prepared: Exporting, usual: Artifact, listener: ProgressListener) -> Artifact:
    """Return the artifact with those passes for this machine that gain when they are timed."""
    if len(choices_of(usual)) == 1:
        listener.note("nothing is timed: no pass for this machine alone changed anything")
        return usual
    options, tried = measure_passes(prepared, usual, listener)
    shipped = export_with(prepared, options, listener).model_copy(update={"tried": tried})
    with prepared.run.locked():
        prepared.run.write_artifact(shipped)
    return shipped


def export_with(
    prepared: Exporting, options: "ExportOptions", listener: ProgressListener
) -> Artifact:
    """Export with `options`, unless that has been done already."""
    from foldbench.exporters.export import hash_inputs

    run, checkpoint, images = prepared.run, prepared.checkpoint, prepared.images
    made = run.find_artifact(hash_inputs(checkpoint, images, options))
    if made is not None:
        listener.note(f"{run.path / made.path} is exported already with these settings")
        return made
    listener.note(f"exporting {run.name} ({options.variant})")
    with run.locked():
        artifact = prepared.make(options, run.path)
        run.write_artifact(artifact)
    return artifact


def put_preprocessing_inside(
    run: RunDirectory,
    artifact: Artifact,
    overrides: Sequence[str],
    paths: Paths,
    listener: ProgressListener,
) -> ImageModel:
    """Write the exported network once more, with its preprocessing inside the file."""
    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    data = load_data(config.data, paths.cache, listener, needs_train=False)
    images = data.test.require_pixels("preprocessing inside the file")
    pixels = images[spread(len(data.test), config.export.images)]
    with run.locked():
        return export_image_model(run, checkpoint, artifact, pixels)


def export_ablation(
    run: RunDirectory, overrides: Sequence[str], paths: Paths, listener: ProgressListener
) -> None:
    """Export what is shipped, and every step on the way there."""
    work = (run, tuple(overrides), paths)
    if has_user_code(run.checkpoint()):
        run_isolated(_export_ablation, *work, listener=listener)
    else:
        _export_ablation(*work, listener)


def _export_ablation(
    run: RunDirectory, overrides: Sequence[str], paths: Paths, listener: ProgressListener
) -> None:
    prepared = prepare_export(run, overrides, paths, listener)
    shipped = export_shipped(prepared, listener)
    for options in plan_ablation(shipped, prepared.options):
        export_with(prepared, options, listener)


def plan_ablation(shipped: Artifact, options: "ExportOptions") -> tuple["ExportOptions", ...]:
    """Return how to export the steps before `shipped`, which was exported with `options`.

    What torch.onnx.export gives by itself, the network with its BatchNorm folded alone where more
    was folded, the folded network without passes, then one more pass after the other. Of a given
    .onnx file: the file itself, then pass after pass. A pass that changes nothing in the graph at
    hand is no step.
    Raises ExportError when that did not fold BatchNorm: there are no steps to it.
    """
    if not options.fold_bn:
        raise ExportError(
            "an ablation leads to the folded network, and export.fold_bn is false: leave "
            "--no-fold-bn out, or set export.fold_bn to true"
        )
    from foldbench.exporters.export import given_options, plain_options

    always = options.passes[:1]
    effective = tuple(p.name for p in shipped.passes if p.changed and p.name not in always)
    first = given_options(options) if options.given else plain_options(options)
    steps = [first]
    if not options.given and folds_beyond_batchnorm(shipped):
        alone = replace(options, passes=always, name=BATCHNORM, batchnorm_alone=True)
        steps.append(replace(alone, ladder_step=len(steps)))
    start, named = (1, GIVEN) if options.given else (0, BARE)
    for count in range(start, len(effective)):
        step = replace(
            options,
            passes=always + effective[:count],
            name="+".join((named, *effective[:count])),
            ladder_step=len(steps),
        )
        steps.append(step)
    return tuple(steps)

"""Quantize an exported file: from which images, and whether at all.

Ranges are found and nodes are chosen on training images alone, shown as they are. The test split
says afterwards, in a comparison, what that was worth.
"""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from foldbench.bench.config.export import ExportSection
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import ConfigError, DataError, ExportError
from foldbench.bench.images.image_set import ImageSet, Split
from foldbench.bench.images.preprocessing import preprocess
from foldbench.bench.images.splits import hold_out
from foldbench.bench.machine.environment import usable_cores
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Artifact, Checkpoint, Target
from foldbench.bench.store.directory import RunDirectory

if TYPE_CHECKING:
    from foldbench.exporters.quantization.calibration import CalibrationSet
    from foldbench.exporters.quantization.quantize import QuantizeOptions, Quantizer

_TARGETS: dict[str, tuple[Target, ...]] = {
    "int8": ("cpu", "openvino"),
    "int8_tables": ("cpu", "host"),
    "float16": ("cpu", "cuda", "tensorrt"),
}
LEAST_IMAGES = 50
"""For calibration, and as many for validation: fewer cannot resolve a drop of a point."""


def refuse_contradictions(asked: ExportSection) -> None:
    """Raise ConfigError for settings that exclude the lower precision that is asked for."""
    if asked.quantize == "none":
        return
    if not asked.fold_bn:
        raise ConfigError(
            f"export.quantize: {asked.quantize} is made from the folded network, and "
            "export.fold_bn is false: leave one of them out"
        )
    allowed = _TARGETS[asked.quantize]
    if asked.target not in allowed:
        raise ConfigError(
            f"export.quantize: {asked.quantize} is for the target {' or '.join(allowed)}, "
            f"and export.target is {asked.target}: give it --target {allowed[0]}"
        )


def source_target(asked: ExportSection) -> Target:
    """Return the target of the file in float32 that the one in lower precision is made from."""
    return "cpu" if asked.quantize != "none" and asked.target == "host" else asked.target


def quantize(
    run: RunDirectory,
    checkpoint: Checkpoint,
    config: Config,
    data: ImageSet,
    source: Artifact,
    listener: ProgressListener,
) -> Artifact:
    """Return the artifact that `export.quantize` asks for, made from `source`, which is in float32.

    What was made from the same inputs before is not made again.
    Raises DataError without enough training images and ExportError where the graph cannot be had in
    that precision.
    """
    from foldbench.exporters.quantization.quantize import QuantizeOptions, Quantizer

    if not source.parity.passed:
        raise ExportError(
            f"{source.path} does not compute what the checkpoint does ({source.parity.reason}), "
            "so that there is nothing to compare a lower precision with: fix that first"
        )
    asked = config.export
    calibration_set = choose_calibration_set(data, checkpoint, config)
    options = QuantizeOptions(asked.quantize, asked.max_drop_points, asked.target)
    quantizer = Quantizer(
        run.path, checkpoint.config_name, calibration_set, usable_cores(), listener
    )
    return _make_once(run, quantizer, source, options)


def choose_calibration_set(
    data: ImageSet, checkpoint: Checkpoint, config: Config
) -> "CalibrationSet":
    """Return training images to find ranges with, and others to validate on.

    Both are spread over the classes. Those held out while training come first among the latter,
    since the network has not learnt them; they are known only where the data is what it was trained
    on. Raises DataError where there are too few images.
    """
    from foldbench.exporters.quantization.calibration import CalibrationSet, LabelledImages

    same = data.info.key == checkpoint.data.key
    fraction = config.train.validation_fraction if same else 0.0
    if data.train is None:
        raise DataError(
            f"{data.info.title} has no training images, which a lower precision is made with: give "
            "others with --calibration-data, or a share of these with --calibration-share 0.2"
        )
    trained, held_out = hold_out(data.train, fraction, config.seed)
    count = len(trained)
    if count < 2 * LEAST_IMAGES:
        raise DataError(
            f"{data.info.title} has {count} images to make a lower precision with, which needs "
            f"{2 * LEAST_IMAGES}: half to find the ranges of tensors, half to see what it costs; "
            "give more training images with --data, or others with --calibration-data"
        )
    order = spread_by_class(trained.require_labels(), config.seed)
    calibrating = min(config.export.calibration_images, count // 2)
    validation = _take(trained, order[calibrating:])
    untrained = 0
    if held_out is not None:
        first = _take(held_out, spread_by_class(held_out.require_labels(), config.seed))
        untrained = min(len(first), config.export.judged_images)
        validation = Split(
            np.concatenate([first.images, validation.images]),
            np.concatenate([first.require_labels(), validation.require_labels()]),
        )
    shape = partial(preprocess, preprocessing=checkpoint.preprocessing)
    calibration = _take(trained, order[:calibrating])
    most = config.export.judged_images
    return CalibrationSet(
        calibration=LabelledImages(calibration.images, calibration.require_labels(), shape),
        validation=LabelledImages(
            validation.images[:most], validation.require_labels()[:most], shape
        ),
        untrained=untrained,
        share=config.data.calibration_share,
    )


def spread_by_class(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return all indices, shuffled, every beginning of them spread evenly over the classes."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    grouped = np.argsort(labels[shuffled], kind="stable")
    ordered = labels[shuffled][grouped]
    turns = np.empty(len(labels), np.int64)
    turns[grouped] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return shuffled[np.argsort(turns, kind="stable")]


def _take(split: Split, indices: npt.NDArray[np.int64]) -> Split:
    return split.take(indices)


def _make_once(
    run: RunDirectory, quantizer: "Quantizer", source: Artifact, options: "QuantizeOptions"
) -> Artifact:
    """Return the artifact, made now or before."""
    from foldbench.exporters.quantization.quantize import hash_quantization

    found = run.find_artifact(hash_quantization(source, quantizer.calibration_set, options))
    if found is not None:
        quantizer.listener.note(f"{run.path / found.path} is exported already with these settings")
        return found
    int8 = None
    if options.quantize == "int8_tables":
        int8 = _make_once(run, quantizer, source, replace(options, quantize="int8", target="cpu"))
    quantizer.listener.note(f"making {options.quantize} of {run.path / source.path}")
    with run.locked():
        if int8 is not None:
            made = quantizer.to_tables(source, int8, options)
        elif options.quantize == "float16":
            made = quantizer.to_float16(source, options)
        else:
            made = quantizer.to_int8(source, options)
        run.write_artifact(made)
    return made

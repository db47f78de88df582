"""The command `bench export`: checked .onnx files of runs."""

from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.failures import fail_on_artifacts
from foldbench.bench.cli.help import LOWER_PRECISION, command, section
from foldbench.bench.cli.options import (
    calibration_options,
    config_option,
    data_option,
    set_option,
    shared_options,
    subject_options,
    with_overrides,
)
from foldbench.bench.cli.runs import choose_subjects, subject_argument
from foldbench.bench.cli.values import CommaList, FiniteNumber

if TYPE_CHECKING:
    from foldbench.bench.store.directory import Paths


@command(
    examples=(
        "export digits-001 --target host --measure",
        "export net.py:MyNet --weights my.pt --input 3x64x64 --quantize int8 --data photos",
    ),
)
@subject_argument
@config_option(
    "export.fold_bn",
    "--fold-bn/--no-fold-bn",
    help="Fold BatchNorm and all else that is linear, or keep it.  [default: by config]",
)
@config_option(
    "export.passes",
    "--passes",
    type=CommaList(),
    metavar="default|none|NAME[,NAME]...",
    help="Rewriting passes over the graph (bench list).  [default: by config]",
)
@config_option(
    "export.target",
    "--target",
    type=click.Choice(["cpu", "openvino", "cuda", "tensorrt", "host"]),
    help="What the file is to run on; host: this machine's CPU alone.  [default: by config]",
)
@config_option(
    "export.measure",
    "--measure/--no-measure",
    help="With --target host: keep the passes that gain when timed here.  [default: by config]",
)
@section(
    LOWER_PRECISION,
    config_option(
        "export.quantize",
        "--quantize",
        type=click.Choice(["none", "int8", "int8_tables", "float16"]),
        help="A second file in lower precision.  [default: by config]",
    ),
    config_option(
        "export.max_drop_points",
        "--max-drop",
        type=FiniteNumber(0, 100),
        metavar="POINTS",
        help="Accuracy that it may cost, percentage points.  [default: by config]",
    ),
    config_option(
        "export.calibration_images",
        "--calibration-images",
        type=click.IntRange(min=1),
        metavar="N",
        help="Training images to find ranges with.  [default: by config]",
    ),
)
@click.option(
    "--with-preprocess",
    "with_preprocess",
    is_flag=True,
    help="Also write a file that takes a uint8 image of any size and gives probabilities.",
)
@subject_options
@data_option
@calibration_options
@set_option
@shared_options
@with_overrides
def export(
    names: tuple[str, ...],
    with_preprocess: bool,
    overrides: tuple[str, ...],
    paths: "Paths",
    as_json: bool,
) -> None:
    """Export as a checked .onnx file, and one in lower precision.

    RUN is one that was trained or added; NETWORK is one of your own, such as net.py:MyNet (see
    bench add). Without any, the newest run of each config is exported.
    """
    from foldbench.bench.stages import export as stage

    with progress() as listener:
        runs, overrides = choose_subjects(names, overrides, paths, listener, exported=False)
        artifacts = [stage.export(run, overrides, paths, listener) for run in runs]
    made = list(zip(runs, artifacts, strict=True))
    output.print_artifacts(made, as_json)
    fail_on_artifacts(artifacts)
    for run, artifact in made if with_preprocess else ():
        with progress() as listener:
            model = stage.put_preprocessing_inside(run, artifact, overrides, paths, listener)
        output.print_image_model(run, model, as_json)

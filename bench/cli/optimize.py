"""The command `bench optimize`: an .onnx file rewritten for a target, and held against itself."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foldbench.bench.cli import output
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import json_option
from foldbench.bench.cli.values import NamedPath

if TYPE_CHECKING:
    from foldbench.bench.records import Target


@command(
    examples=(
        "optimize model.onnx -o faster.onnx",
        "optimize model.onnx -o faster.onnx --target host",
    ),
)
@click.argument("file", type=NamedPath(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    "target_file",
    type=NamedPath(dir_okay=False, path_type=Path),
    required=True,
    help="Where to write the result.",
)
@click.option(
    "--target",
    type=click.Choice(["cpu", "cuda", "tensorrt", "host", "openvino"]),
    default="cpu",
    show_default=True,
    help="What the file is to run on; host: this machine's CPU alone.",
)
@json_option
def optimize(file: Path, target_file: Path, target: "Target", as_json: bool) -> None:
    """Rewrite an .onnx file to run faster, and prove it the same.

    Measure both afterwards: bench compare FILE RESULT.
    """
    from foldbench.exporters.onnx_optimize import optimize_onnx

    output.print_optimized(optimize_onnx(file, target_file, target), as_json)

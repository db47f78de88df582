"""Rewrite an .onnx file from a Python program, as `bench optimize` does."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldbench.bench.api.arrays import to_images
from foldbench.bench.api.elsewhere import optimize_elsewhere
from foldbench.bench.errors import DataError
from foldbench.bench.workers.isolated import run_isolated

if TYPE_CHECKING:
    from foldbench.exporters.onnx_optimize import Optimized


def optimize(
    source: "str | os.PathLike[str]",
    path: "str | os.PathLike[str]",
    images: Any = None,
    *,
    input_shape: Sequence[int] | None = None,
    target: str = "cpu",
    passes: Sequence[str] = ("default",),
) -> "Optimized":
    """Write the .onnx file `source` to `path` as it runs faster on `target`.

    Names, outputs and number types stay, so that it can take the place of the other. `images` are
    inputs (N, C, H, W) float32 on which every output is held against that of `source`; without
    them, random numbers are, of `input_shape` (C, H, W) where the file leaves it open.

    Raises BenchError, with one line; ExportError for a file that cannot be read or whose answers
    would change. Nothing is written then.
    """
    arrays = None if images is None else to_images(images)
    if arrays is not None and arrays.dtype != "float32":
        raise DataError("images are uint8; allowed: float32, as the network takes them")
    shape = None if input_shape is None else tuple(input_shape)
    places = Path(source).absolute(), Path(path).absolute()
    return run_isolated(optimize_elsewhere, *places, target, arrays, shape, tuple(passes))

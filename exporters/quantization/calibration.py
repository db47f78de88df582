"""The images that quantization sees, and the range of each tensor by onnxruntime's calibrators."""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    TensorsData,
    create_calibrator,
)

from foldbench.bench.arrays import Floats, Images, Labels
from foldbench.bench.errors import ExportError, one_line, root_cause
from foldbench.bench.records import Method
from foldbench.bench.store.temporary import temporary_folder
from foldbench.exporters.quantization.entropy import entropy_threshold
from foldbench.exporters.quantization.graph import RANGED

BATCH = 64
"""Images that are brought into the network's form at a time, so that few are in memory."""

METHODS: Mapping[Method, tuple[CalibrationMethod, Mapping[str, Any]]] = {
    # The least and the greatest number that was seen.
    "minmax": (CalibrationMethod.MinMax, {}),
    # 0.01 % of the numbers lie outside, half of them at either end.
    "percentile": (CalibrationMethod.Percentile, {"percentile": 99.99, "symmetric": False}),
    # The range that loses least information. It is searched among histogram bins: onnxruntime's
    # own default has as many bins as codes, which leaves next to nothing to choose from.
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 1024, "num_quantized_bins": 128}),
}
_ERRORS_ALONE = 3


@dataclass(frozen=True)
class LabelledImages:
    """Images as they are stored, and how each becomes an input."""

    pixels: Images
    """(N, C, H, W) uint8."""
    labels: Labels
    """(N,) int64."""
    preprocess: Callable[[Images], Floats]
    batch: int | None = None
    """The only batch size that the network takes; None where it takes any."""

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self) -> Iterator[Floats]:
        """Yield inputs (n, C, H, W) float32 in order, n at most BATCH.

        Where the network takes one batch size, n is that; the last batch is filled up with images
        that were in it already.
        """
        for start in range(0, len(self), self.batch or BATCH):
            part = self.pixels[start : start + (self.batch or BATCH)]
            if self.batch is not None:
                part = part[np.arange(self.batch) % len(part)]
            yield self.preprocess(part)

    def first(self, count: int) -> "LabelledImages":
        """Return the first `count` of them."""
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])

    def in_batches_of(self, batch: int | None) -> "LabelledImages":
        """Return them for a network that takes `batch` images at a time alone."""
        return replace(self, batch=batch)


@dataclass(frozen=True)
class CalibrationSet:
    """Training images: some for ranges, others to validate on."""

    calibration: LabelledImages
    validation: LabelledImages
    untrained: int
    """How many of `validation` were held out while training."""
    share: float = 0.0
    """Of the test images that they all are, where there are no training images."""

    def sha256(self) -> str:
        """Return the sha256 of pixels and labels, those of the calibration first."""
        digest = hashlib.sha256()
        for images in (self.calibration, self.validation):
            digest.update(images.pixels.tobytes())
            digest.update(images.labels.tobytes())
        return digest.hexdigest()

    def in_batches_of(self, batch: int | None) -> "CalibrationSet":
        """Return them for a network that takes `batch` images at a time alone."""
        return replace(
            self,
            calibration=self.calibration.in_batches_of(batch),
            validation=self.validation.in_batches_of(batch),
        )


class _Batch(CalibrationDataReader):
    """One batch, given once."""

    def __init__(self, name: str, batch: Floats) -> None:
        self._left: list[dict[str, Floats]] = [{name: batch}]

    def get_next(self) -> dict[str, Floats] | None:
        return self._left.pop() if self._left else None


def measure_ranges(model: onnx.ModelProto, images: LabelledImages, method: Method) -> TensorsData:
    """Return the range of every tensor that a quantized node could read or give.

    `model` is float32 and tells the shape of every tensor. Raises ExportError when onnxruntime
    cannot run it.
    """
    kind, options = METHODS[method]
    name = model.graph.input[0].name
    onnxruntime.set_default_logger_severity(_ERRORS_ALONE)
    with temporary_folder() as folder:
        path = folder / "float.onnx"
        onnx.save(model, path)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the calibrators print
                calibrator = create_calibrator(
                    path,
                    list(RANGED),
                    folder / "augmented.onnx",
                    calibrate_method=kind,
                    extra_options=dict(options),
                )
                for batch in images.batches():
                    calibrator.collect_data(_Batch(name, batch))
                if method == "entropy":
                    calibrator.collector.get_entropy_threshold = entropy_threshold
                ranges: TensorsData = calibrator.compute_data()
        except Exception as error:  # onnxruntime raises bare Exceptions of its own
            raise ExportError(
                f"onnxruntime could not calibrate it: {one_line(root_cause(error))}"
            ) from error
    return ranges

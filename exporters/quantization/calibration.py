"""The range of each tensor, by onnxruntime's calibrators, from images that are shown once."""

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    TensorsData,
    create_calibrator,
)

from foldbench.bench.errors import ExportError, one_line
from foldbench.bench.records import Method
from foldbench.bench.store.temporary import temporary_folder
from foldbench.exporters.quantization.graph import RANGED
from foldbench.exporters.quantization.images import Floats, LabelledImages

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
                ranges: TensorsData = calibrator.compute_data()
        except Exception as error:  # onnxruntime raises bare Exceptions of its own
            raise ExportError(f"onnxruntime could not calibrate it: {one_line(error)}") from error
    return ranges

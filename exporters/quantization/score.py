"""How close a graph in lower precision comes to the one in float32, on labelled images."""

from math import isnan

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import ModelProto
from scipy.special import log_softmax

from foldbench.bench.analysis.logits import measure_agreement
from foldbench.bench.arrays import Floats, Labels
from foldbench.bench.errors import ExportError, one_line, root_cause
from foldbench.bench.host_files import custom_operators
from foldbench.bench.probabilities import are_probabilities
from foldbench.bench.records import Closeness
from foldbench.exporters.quantization.calibration import LabelledImages

_ERRORS_ALONE = 3
_LEAST_PROBABILITY = 1e-7
"""What float32 softmax and a lower precision write as 0."""


class ClosenessScorer:
    """Scores graphs against the one in float32, on images not used for calibration."""

    def __init__(self, model: ModelProto, images: LabelledImages, threads: int) -> None:
        self._images, self._threads = images, threads
        self._before = _run_model(model, images, threads)

    def score(self, model: ModelProto, images: int | None = None) -> Closeness:
        """Return how close `model` comes on all images, or on the first so many."""
        shown = self._images.first(images) if images else self._images
        after = _run_model(model, shown, self._threads)
        return measure_closeness(self._before[: len(shown)], after, shown.labels)


def _run_model(model: ModelProto, images: LabelledImages, threads: int) -> Floats:
    """Return the logits (N, classes) float32 of `images` from onnxruntime on the CPU.

    Raises ExportError when it cannot run the model.
    """
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = _ERRORS_ALONE
    # Nothing is timed here, and spinning takes the CPU from whatever else runs.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    custom_operators.register_for(settings, {p.key: p.value for p in model.metadata_props})
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        parts = [session.run(None, {name: batch})[0] for batch in images.batches()]
    except Exception as error:  # onnxruntime raises bare Exceptions of its own
        raise ExportError(f"onnxruntime could not run it: {one_line(root_cause(error))}") from error
    return np.concatenate(parts)[: len(images)]


def measure_closeness(before: Floats, after: Floats, labels: Labels) -> Closeness:
    """Return how close logits `after` are to `before`, both (N, classes); labels are (N,).

    Outputs that are probabilities already are taken as such.
    """
    already = are_probabilities(before)
    p, q = (_log_probabilities(outputs.astype(np.float64), already) for outputs in (before, after))
    agreement = measure_agreement(before, after)
    return Closeness(
        images=len(labels),
        correct_before=int((before.argmax(1) == labels).sum()),
        correct_after=int((after.argmax(1) == labels).sum()),
        top1_equal=agreement.top1_equal,
        kl_nats=float((np.exp(p) * (p - q)).sum(1).mean()),
        max_rel_difference=agreement.max_rel_difference,
    )


def _log_probabilities(outputs: npt.NDArray[np.float64], already: bool) -> npt.NDArray[np.float64]:
    if not already:
        logs: npt.NDArray[np.float64] = log_softmax(outputs, axis=1)
        return logs
    clipped = np.maximum(outputs, _LEAST_PROBABILITY)
    return np.log(clipped / clipped.sum(axis=1, keepdims=True))


def keeps_budget(closeness: Closeness, max_drop_points: float) -> bool:
    """Return whether the drop is allowed and the outputs are numbers at all."""
    return closeness.drop_points() <= max_drop_points and not isnan(closeness.max_rel_difference)

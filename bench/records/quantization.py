"""The records of a lower precision: which nodes of a graph have it, why, and what it costs."""

from typing import Literal

from foldbench.bench.records.base import Record

Quantize = Literal["none", "int8", "int8_tables", "float16"]
"""What an export may lower the precision to. int8_tables: int8, with the element-wise operators
between two quantized tensors written as tables."""
Method = Literal["minmax", "entropy", "percentile"]
"""How the range of a tensor follows from what it held."""


class Closeness(Record):
    """The answers of a graph in a lower precision beside those in float32, on the same images."""

    images: int
    correct_before: int
    """Images that float32 gets right."""
    correct_after: int
    top1_equal: int
    kl_nats: float
    """Mean over images of sum p ln(p / q): p the softmax of float32's logits, q of the others."""
    max_rel_difference: float
    """Largest difference of two logits, divided by float32's largest absolute logit."""

    def drop_points(self) -> float:
        """Return by how many percentage points fewer images are right than in float32."""
        return 100.0 * (self.correct_before - self.correct_after) / self.images


class RangeTrial(Record):
    """Every node that can be quantized in int8, with ranges of one method."""

    method: Method
    closeness: Closeness


class NodeChoice(Record):
    """One node that can be computed in int8, and what was decided."""

    node: str
    op_type: str
    weights: int
    """Numbers in its weight tensor."""
    alone: Closeness | None
    """This node in int8, all others in float32; None where all nodes together keep the budget, so
    that none was tried alone."""
    quantized: bool
    reason: str


class QuantizationReport(Record):
    """How a file of lower precision was made from one in float32, and what that cost."""

    source_variant: str
    source_sha256: str
    """Of the .onnx file that it was made from."""
    calibration_images: int
    """Training images that the ranges follow from; 0 where no range is needed."""
    images_sha256: str
    """Of pixels and labels: those of the calibration, then those of `closeness`."""
    calibration_share: float = 0.0
    """Share of the test images that all these are, which are not tested on."""
    untrained_images: int
    """How many of the images of `closeness` were held out while training; the rest was not."""
    method: Method | None
    trials: tuple[RangeTrial, ...]
    nodes: tuple[NodeChoice, ...]
    tables: int
    """Chains of element-wise operators that were replaced by tables."""
    closeness: Closeness
    """Of the finished file, on training images that the calibration did not see."""
    max_drop_points: float
    within_budget: bool
    """Whether the drop on those images is at most `max_drop_points`."""
    reason: str | None
    """Why it is not; None when it is."""

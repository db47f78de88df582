"""An exported file, what was done to make it, and how closely it agrees."""

from typing import Literal

from pydantic import Field

from foldbench.bench.records.base import (
    SCHEMA_VERSION,
    Folder,
    Record,
    Target,
    Variant,
)
from foldbench.bench.records.images import Sha256
from foldbench.bench.records.quantization import QuantizationReport

ParityReference = Literal["float64", "float32", "ort_float64", "onnx_float64", "ort_float32"]
"""What an exported file is held against: the network in float64 in torch, or in float32 where it
does not run in float64; of an .onnx file without a module, its graph in float64 in onnxruntime or
in onnx's reference evaluator, or in float32 in onnxruntime without optimisation."""


FoldKind = Literal["branches", "scale", "chain", "constant", "unused"]
"""What besides BatchNorm is folded: summed layers of one input, scales and shifts by channel,
layers right after one another, weights that are computed in every call, layers that nobody reads.
"""


class Fold(Record):
    """One BatchNorm that became part of a layer."""

    layer: str
    batchnorm: str


class LinearFold(Record):
    """Something else that became part of a layer."""

    kind: FoldKind
    layer: str
    """Its name; empty where nothing took it in, as nobody reads it."""
    taken: str


class Skip(Record):
    """One BatchNorm (or the whole network) that was left as it is, and why."""

    module: str
    reason: str
    kind: Literal["batchnorm"] | FoldKind = "batchnorm"


class Cost(Record):
    """What a network takes."""

    flops_per_image: int
    """Of convolutions and matrix products; a multiplication and an addition are two."""
    parameters: int
    """Numbers in it that are weights or buffers of floating point."""


class Agreement(Record):
    """How far two sets of outputs are apart, on the same images."""

    images: int
    top1_equal: int
    max_abs_difference: float
    max_rel_difference: float
    """The same, divided by the largest absolute logit of the reference."""


class FoldReport(Record):
    """What folding did to the module, and the proof that the function stayed the same."""

    batchnorms_before: int
    """BatchNorm calls in the module's data flow before folding."""
    batchnorms_after: int
    folded: tuple[Fold, ...]
    skipped: tuple[Skip, ...]
    others: tuple[LinearFold, ...] = ()
    cost_before: Cost | None = None
    """None where it was not counted, as in records of older versions."""
    cost_after: Cost | None = None
    agreement: Agreement | None = None
    """Folded against unfolded, both float32 in torch, on real images."""


class PassReport(Record):
    """What one export pass did to the graph, and in how many places."""

    name: str
    changed: int
    detail: str


class Tried(Record):
    """A file with fewer passes that was timed, and not shipped unless the artifact has its passes.

    Speed-ups are over the file with all of them, with their 95 % intervals; None without times.
    """

    passes: tuple[str, ...]
    """For this machine alone, that it has."""
    batch_size: int
    speedup: float | None
    low: float | None
    high: float | None


class ParityCase(Record):
    """The artifact against the network itself on one kind of input at one batch size."""

    inputs: Literal["images", "random", "extreme"]
    batch_size: int
    error: float | None
    """max |artifact - reference| / max |reference|; None for a wrong shape or NaN."""
    torch_error: float
    """The same for the network itself in float32 (in torch; a given .onnx file in onnxruntime): the
    error that float32 arithmetic has anyway."""
    tolerance: float
    passed: bool


class Parity(Record):
    """Whether the artifact computes what the checkpoint computes."""

    passed: bool
    reason: str | None
    cases: tuple[ParityCase, ...]
    reference: ParityReference = "float64"
    """What the network was computed in for the file to be held against."""

    @property
    def is_exact(self) -> bool:
        """Whether that was float64."""
        return self.reference.endswith("float64")

    @property
    def of_a_file(self) -> bool:
        """Whether that was an .onnx file without a module."""
        return self.reference.startswith(("ort_", "onnx_"))


class Artifact(Record):
    """An exported network."""

    schema_version: Literal[1] = SCHEMA_VERSION
    checkpoint_sha256: Sha256
    inputs_sha256: Sha256
    """Of everything that the export depended on: checkpoint, options, images, versions."""
    variant: Variant
    target: Target = "cpu"
    """What it was exported to run on; ``host``: the CPU of the machine that exported it, alone."""
    path: str
    """Relative to the run directory."""
    sha256: Sha256
    size_bytes: int
    opset: int
    exporter: str
    node_count: int
    batchnorm_nodes: int
    """BatchNormalization nodes in the .onnx file."""
    folded_by: tuple[Folder, ...]
    fold: FoldReport
    passes: tuple[PassReport, ...]
    tried: tuple[Tried, ...] = ()
    """Other choices of passes that were timed when it was exported."""
    ladder_step: int | None = None
    """Its place among the steps on the way to what is shipped; None for what is shipped."""
    parity: Parity
    """Of a file in lower precision: of the float32 file that it was made from."""
    precision: str = "float32"
    quantization: QuantizationReport | None = None
    """None for a file that was not lowered here."""
    fixed_batch: int | None = None
    """The only batch size that it runs at; None where any does."""
    export_s: float
    modules: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The modules that compute each value of the graph, those fused into it after the first; empty
    where they are not known."""

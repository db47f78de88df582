"""The frozen records that flow through foldbench, each naming its parent's sha256.

Checkpoint -> Artifact -> Measurement -> Run. Seconds, bytes and images are stored raw and
unrounded; statistics are functions over them, and rounding happens in `reports` alone. A value that
does not exist is None, never 0. A row that could not run is a Measurement with a reason.
Schema history (`SCHEMA_VERSION` is in every file; others are refused): 1, the first.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from bench.record_base import Record as Record
from bench.records_images import DataInfo as DataInfo
from bench.records_images import Preprocessing as Preprocessing
from bench.records_images import Resize as Resize
from bench.records_images import Sha256 as Sha256
from bench.records_machine import PeakThroughput as PeakThroughput
from bench.records_machine import Tuning as Tuning
from bench.records_quantization import QuantizationReport
from bench.records_scenarios import ScenarioResult as ScenarioResult
from bench.records_timing import Block as Block
from bench.records_timing import Boundary as Boundary
from bench.records_timing import Clocks as Clocks
from bench.records_timing import Shortage as Shortage
from bench.records_timing import StopReason as StopReason
from bench.records_timing import Timing as Timing
from bench.records_transfer import Transfer as Transfer

SCHEMA_VERSION: Literal[1] = 1

Protocol = Literal["homework", "clean"]
Variant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.+-]*$")]
Device = Literal["cpu", "cuda"]
Target = Literal["cpu", "cuda", "tensorrt", "host"]
Folder = Literal["foldbench", "exporter"]
Status = Literal["ok", "failed", "skipped"]
Role = Literal["contender", "again", "one_thread"]


class Epoch(Record):
    """One pass over the training images."""

    epoch: int
    loss: float
    """Mean training loss: of batch means under `protocol: homework`, of images under `clean`."""
    accuracy: float
    """Share of augmented training images, counted while training."""
    validation_accuracy: float | None
    """Share of held-out training images (never the test split) classified correctly."""
    learning_rate: float
    """At the epoch's end."""
    duration_s: float
    images_per_s: float


class Checkpoint(Record):
    """A trained network: weights in a safetensors file and everything needed to use them."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run: str
    config_name: str
    config: dict[str, Any]
    """The configuration as it was resolved, defaults included."""
    config_sha256: Sha256
    model: str
    model_args: dict[str, Any]
    parameter_count: int
    weights: str
    """File name of the safetensors file, in the run directory."""
    sha256: Sha256
    size_bytes: int
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    data: DataInfo
    seed: int
    device: str
    history: tuple[Epoch, ...]
    environment: dict[str, Any]
    random_weights: bool = False
    """True for a network that was not trained at all: its latency means something, its answers do
    not."""
    transfer: Transfer | None = None
    """Where just a linear layer was trained, on the features of a pretrained network."""

    @property
    def network(self) -> str:
        """What to call the network: which one of torchvision's or timm's it is, or the model."""
        return str(self.model_args.get("arch", self.model))


class Fold(Record):
    """One BatchNorm that became part of the layer before it."""

    layer: str
    batchnorm: str


class Skip(Record):
    """One BatchNorm (or the whole network) that was left as it is, and why."""

    module: str
    reason: str


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
    agreement: Agreement | None = None
    """Folded against unfolded, both float32 in torch, on real images."""


class PassReport(Record):
    """What one export pass did to the graph, and in how many places."""

    name: str
    changed: int
    detail: str


class ParityCase(Record):
    """The artifact against torch on one kind of input at one batch size."""

    inputs: Literal["images", "random", "extreme"]
    batch_size: int
    error: float | None
    """max |artifact - float64 torch| / max |float64 torch|; None for a wrong shape or NaN."""
    torch_error: float
    """The same for float32 torch: the error that float32 arithmetic has anyway."""
    tolerance: float
    passed: bool


class Parity(Record):
    """Whether the artifact computes what the checkpoint computes."""

    passed: bool
    reason: str | None
    cases: tuple[ParityCase, ...]


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
    ladder_step: int | None = None
    """Its place among the steps on the way to what is shipped; None for what is shipped."""
    parity: Parity
    """Of a file in lower precision: of the float32 file that it was made from."""
    precision: str = "float32"
    quantization: QuantizationReport | None = None
    """None for a file in float32."""
    export_s: float


class Accuracy(Record):
    """A contender's accuracy on the whole test split."""

    protocol: Protocol
    correct: int
    total: int
    top1: tuple[int, ...]
    """Predicted class index of each test image."""
    agreement: Agreement | None
    """Against float32 torch eager on the CPU, unfolded; None when that one did not run."""


class Measurement(Record):
    """One contender: an artifact (or the checkpoint itself) on a backend and a device."""

    contender: str
    """Unique within the run, such as ``ort/folded/cpu``."""
    role: Role = "contender"
    """``again`` is the A/A control, ``one_thread`` the single-thread control."""
    backend: str
    variant: Variant
    requested_device: Device
    actual_device: str | None = None
    """Where it really ran, as the runtime says; None when it did not run."""
    runtime: str | None = None
    """Library, version and settings, such as the execution providers of the session."""
    status: Status
    reason: str | None = None
    """Why it failed or was skipped; None when it is ok."""
    source_sha256: Sha256 | None = None
    size_bytes: int | None = None
    """None where no file holds just this network."""
    precision: str = "float32"
    threads: int | None = None
    """Threads as read back from the runtime."""
    open_s: float | None = None
    """Seconds to load the file and build the session, in a fresh process."""
    import_s: float | None = None
    first_run_s: float | None = None
    """Seconds of the first call after that, at the first of compare.batch_sizes."""
    libraries: dict[str, Any] | None = None
    """Versions, switches and thread pools of what its process had loaded, as read back there."""
    peak_memory_bytes: int | None = None
    """Largest resident set of its process."""
    accuracy: Accuracy | None = None
    timings: tuple[Timing, ...] = ()
    not_resident: str | None = None
    """Why it was not timed within the boundary ``device``, or not at every batch size, although it
    ran on a GPU."""
    scenarios: tuple[ScenarioResult, ...] = ()
    """What LoadGen measured, where it did in place of the rounds."""
    tunings: tuple[Tuning, ...] = ()


class AblationStep(Record):
    """One step on the way from unfolded torch to the file that is shipped."""

    contender: str
    what: str
    """What it adds to the step before."""


class Run(Record):
    """Everything a report needs, and nothing it has to look up elsewhere."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    created: str
    config: dict[str, Any]
    """As resolved for the comparison."""
    environment: dict[str, Any]
    command: tuple[str, ...]
    checkpoint: Checkpoint
    artifacts: tuple[Artifact, ...]
    data: DataInfo
    """Whose test split was scored."""
    evaluation_protocol: Protocol
    evaluation_sha256: Sha256
    """Of the uint8 images and labels that every contender was given."""
    labels: tuple[int, ...] | None = None
    """The true class index of each of those images; None in records from before it was kept."""
    rounds: int
    """Clean rounds wanted at each batch size."""
    budget_s: float | None = None
    """Most seconds that the rounds of each device might take."""
    foreign_load_cores: float | None = None
    """Cores that other programs kept busy just before the rounds."""
    arithmetic: PeakThroughput | None = None
    """What the network computes, and how fast this machine multiplied just before the rounds."""
    reference: str
    """The contender that agreement is measured against."""
    measurements: tuple[Measurement, ...]
    ladder: tuple[AblationStep, ...] = ()
    """Where the steps were compared one by one: in order, the first one where it begins."""
    resumed: tuple[str, ...] = ()
    """When it went on after an interruption, in new processes; see `Block.session`."""
    interrupted: bool = False
    """Whether it has not come to its end: what it would have measured after that is missing."""

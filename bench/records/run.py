"""Accuracy and latency of the contenders of one comparison."""

from typing import Any, Literal

from foldbench.bench.records.artifact import Agreement, Artifact
from foldbench.bench.records.base import SCHEMA_VERSION, Protocol, Record, Role, Status, Variant
from foldbench.bench.records.calling import AsCalled
from foldbench.bench.records.checkpoint import Checkpoint
from foldbench.bench.records.images import DataInfo, Sha256
from foldbench.bench.records.machine import PeakThroughput
from foldbench.bench.records.timing import Timing
from foldbench.bench.samples.scenarios import ScenarioResult
from foldbench.bench.samples.timing import Device, Tuning

OtherInput = Literal["swapped channels", "0..1", "0..255", "-1..1", "ImageNet"]
"""Ways to make an input: RGB as BGR, or another normalisation of the pixels (0..255 is none)."""


class InputProbe(Record):
    """What the network got right of some test images when its input was made in another way."""

    what: OtherInput
    images: int
    stated_correct: int
    """With the input as it is stated."""
    correct: int
    gained: int
    """Right in this way alone."""
    lost: int
    """Right in the stated way alone."""


class Accuracy(Record):
    """A contender's accuracy on the whole test split."""

    protocol: Protocol
    correct: int | None
    """None where the images have no labels."""
    total: int
    top1: tuple[int, ...]
    """Predicted class index of each test image."""
    agreement: Agreement | None
    """With the reference of the run; None when that one did not run."""
    mean_confidence: float | None = None
    """Mean over the images of the probability of the predicted class (softmax of the logits, or
    the outputs themselves where they are probabilities); None in records from before it was
    taken."""
    input_probes: tuple[InputProbe, ...] = ()
    """What other ways to make the input gave, where the accuracy leaves room for it; of one
    contender of a network."""


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
    """Why it did not run, or not at all batch sizes."""
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
    as_called: AsCalled | None = None
    """What it costs after pauses, from a cold process and the like, where that was asked for."""


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
    """The contender that agreement is measured against; or FLOAT64."""
    baseline: str = "torch/unfolded"
    """Backend and variant that speed-ups are against, on the same device."""
    group: str | None = None
    """The same in all records of networks that took turns in the same rounds; None for one."""
    reference_network: str | None = None
    """Of such networks, the name of the run that the others are held against."""
    measurements: tuple[Measurement, ...]
    ladder: tuple[AblationStep, ...] = ()
    """Where the steps were compared one by one: in order, the first one where it begins."""
    resumed: tuple[str, ...] = ()
    """When it went on after an interruption, in new processes; see `Block.session`."""
    interrupted: bool = False
    """Whether it has not come to its end: what it would have measured after that is missing."""

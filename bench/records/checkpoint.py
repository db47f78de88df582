"""A trained network and how it was trained."""

from typing import Any, Literal

from foldbench.bench.records.base import (
    SCHEMA_VERSION,
    Record,
)
from foldbench.bench.records.images import DataInfo, Preprocessing, Sha256
from foldbench.bench.records.source import Source
from foldbench.bench.records.transfer import Transfer


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
    class_ids: tuple[str, ...] = ()
    """What folders of images call them otherwise, such as ImageNet's n01440764; () for nothing."""
    data: DataInfo
    """What it was trained on, or the images that it was added with."""
    seed: int
    device: str
    history: tuple[Epoch, ...]
    environment: dict[str, Any]
    random_weights: bool = False
    """True for a network that was not trained at all: its latency means something, its answers do
    not."""
    batch_dependent: bool = False
    """Whether its answer for an image depended on the other images of the batch, in eval mode."""
    transfer: Transfer | None = None
    """Where just a linear layer was trained, on the features of a pretrained network."""

    source: Source | None = None
    """Where a network comes from that is not one of foldbench's own."""

    @property
    def network(self) -> str:
        """What to call the network: which one of torchvision's or timm's it is, or the model."""
        if self.source is not None:
            return self.source.name
        return str(self.model_args.get("arch", self.model))

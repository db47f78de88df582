"""The section train: how the network is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from foldbench.bench.config.base import ConfigSection, Positive, Share, Threads
from foldbench.bench.records import Protocol


class AugmentSection(ConfigSection):
    """Random changes to training images."""

    flip: bool = True
    """Mirror left to right with probability one half."""
    alternating_flip: bool = False
    """Toss each image's coin in the first epoch alone, and mirror it in every other one after
    (with flip): two epochs in a row show every image both ways."""
    crop_padding: Annotated[int, Field(ge=0, le=64)] = 4
    """Pixels added on each side before a crop of the original size at a random place."""
    crop_edge: Literal["black", "reflect"] = "black"
    """What the pixels that are added show: nothing, or the image mirrored at its edge."""
    cutout: Annotated[int, Field(ge=0, le=1024)] = 0
    """Side of a square of the mean colour put at a random place in each image, pixels."""
    cutmix: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of images that get a box of another one, and its label in proportion to its area."""


class ScheduleSection(ConfigSection):
    """How the learning rate changes."""

    name: Literal["constant", "step", "cosine", "one_cycle"] = "step"
    """constant; step (per epoch); cosine to zero (per step); one_cycle up then down (per step)."""
    step_size: Positive = 30
    """Epochs between two steps (step alone)."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor at each step (step alone)."""
    warmup: Share = 0.25
    """Share of all steps spent going up (one_cycle alone)."""


class TrainSection(ConfigSection):
    """How the network is trained."""

    protocol: Protocol = "clean"
    """homework: all training images, epoch loss as the mean of batch means, as the notebook's code
    has it. clean: epoch loss over images; a share may be held out to validate on."""
    epochs: Positive = 30
    """Passes over the training images."""
    batch_size: Positive = 128
    """Images per step."""
    micro_batches: Positive = 1
    """Parts that each batch is worked through in before a step, their gradients added up: less
    memory, and on a CPU more of it in cache. BatchNorm normalises each part by itself."""
    optimizer: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    """muon: for all weights of hidden layers, with AdamW for the rest."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Of the optimizer; the peak of a schedule that rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of the optimizer."""
    decay_norm_and_bias: bool = True
    """Whether weight decay also pulls at biases and at the weights of normalisations."""
    norm_bias_factor: Annotated[float, Field(gt=0)] = 1.0
    """Learning rate of the biases of normalisations, as a multiple of the base rate."""
    momentum: Share = 0.9
    """For sgd and muon alone (with Nesterov's correction)."""
    decoupled: bool = False
    """For sgd alone: learning_rate and weight_decay are for 1,024 images, and stay right when
    batch_size, momentum or one another change."""
    ema_decay: Share = 0.0
    """Share that the average of the weights keeps at each step; the average is what is validated
    and saved, with BatchNorm statistics of its own. 0: the weights themselves."""
    initial_weights: Literal["default", "dirac"] = "default"
    """dirac: a convolution first passes on as many channels as it can as they are."""
    label_smoothing: Share = 0.0
    """Share of the label that is spread over all classes."""
    schedule: ScheduleSection = ScheduleSection()
    """How the learning rate changes over the epochs."""
    augment: AugmentSection = AugmentSection()
    """Random changes of training images."""
    validation_fraction: Share = 0.0
    """Share of the training images held out; validated on after each epoch (clean alone)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """float32: without TF32, on a GPU too. bfloat16: autocast; weights and optimizer state stay
    float32."""
    channels_last: bool = False
    """Memory layout of images and weights."""
    compile: Literal["none", "mish", "model"] = "none"
    """mish: every Mish as one compiled pass; model: torch.compile on the whole network. Both need
    a C++ compiler, and change nothing but rounding."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto: CUDA where this machine has it."""
    threads: Threads | None = None
    """For one operator on the CPU; all that this process may use by default."""

    @model_validator(mode="after")
    def _decoupled_is_for_sgd(self) -> Self:
        if self.decoupled and self.optimizer != "sgd":
            raise ValueError(
                f"decoupled is for optimizer 'sgd', not {self.optimizer!r}: "
                "set decoupled to false or optimizer to 'sgd'"
            )
        return self

    @model_validator(mode="after")
    def _parts_have_two_images(self) -> Self:
        if self.micro_batches > 1 and self.batch_size < 2 * self.micro_batches:
            raise ValueError(
                f"micro_batches is {self.micro_batches}, but batch_size is {self.batch_size}: "
                "BatchNorm needs two images in each part; give fewer parts"
            )
        return self

    @model_validator(mode="after")
    def _homework_trains_on_everything(self) -> Self:
        if self.protocol == "homework" and self.validation_fraction > 0:
            raise ValueError(
                "validation_fraction must be 0 under protocol 'homework', which trains on every "
                "training image: set protocol to 'clean' to hold images out"
            )
        return self

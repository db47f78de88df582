"""What a configuration may say: every field with its type, its default and what it means."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bench.records import Protocol, Target
from bench.records_quantization import Quantize

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Channels = tuple[float, float, float]


class Section(BaseModel):
    """A part of a configuration; unknown keys are refused, numbers are not read from text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class ModelSection(Section):
    """Which network."""

    name: str
    """File name in models/, see `bench list`."""
    args: dict[str, Any] = {}
    """Arguments of the model's build function besides the classes and the input shape."""


class DataSection(Section):
    """Which images, and how they become the network's input."""

    name: str = "cifar10"
    """File name in bench/datasets/, see `bench list`."""
    path: str | None = None
    """Where the images are: a folder or a .tar[.xz|.gz|.bz2] file, by the data set."""
    download: bool = False
    """Whether missing files may be fetched from the data set's own place."""
    image_size: Annotated[int, Field(ge=8, le=1024)] = 32
    """Height and width of the network's input, pixels."""
    mean: Channels = (0.5, 0.5, 0.5)
    """Subtracted from each channel after scaling to 0..1."""
    std: tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ] = (0.5, 0.5, 0.5)
    """Divides each channel after that."""


class AugmentSection(Section):
    """Random changes to training images."""

    flip: bool = True
    """Mirror left to right with probability one half."""
    crop_padding: Annotated[int, Field(ge=0, le=64)] = 4
    """Black pixels added on each side before a crop of the original size at a random place."""


class ScheduleSection(Section):
    """How the learning rate changes."""

    name: Literal["constant", "step", "cosine", "one_cycle"] = "step"
    """constant; step (per epoch); cosine to zero (per step); one_cycle up then down (per step)."""
    step_size: Positive = 30
    """Epochs between two steps (step alone)."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor at each step (step alone)."""
    warmup: Share = 0.25
    """Share of all steps spent going up (one_cycle alone)."""


class TrainSection(Section):
    """How the network is trained."""

    protocol: Protocol = "clean"
    """homework: all training images, epoch loss as the mean of batch means, as the notebook's code
    has it. clean: epoch loss over images; a share may be held out to validate on."""
    epochs: Positive = 30
    batch_size: Positive = 128
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    momentum: Share = 0.9
    """For sgd alone (with Nesterov's correction)."""
    label_smoothing: Share = 0.0
    schedule: ScheduleSection = ScheduleSection()
    augment: AugmentSection = AugmentSection()
    validation_fraction: Share = 0.0
    """Share of the training images held out; validated on after each epoch (clean alone)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast; weights and optimizer state stay float32."""
    channels_last: bool = False
    """Memory layout of images and weights."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Threads | None = None
    """For one operator on the CPU; all that this process may use by default."""

    @model_validator(mode="after")
    def _homework_trains_on_everything(self) -> Self:
        if self.protocol == "homework" and self.validation_fraction > 0:
            raise ValueError(
                "validation_fraction must be 0 under protocol 'homework', which trains on every "
                "training image: set protocol to 'clean' to hold images out"
            )
        return self


class EvaluateSection(Section):
    """How accuracy on the test split is taken."""

    protocol: Protocol = "clean"
    """homework: test images are flipped and cropped at random, as the notebook's code did.
    clean: they are shown as they are."""
    seed: Seed = 0
    """Of the random flips and crops under protocol homework; every contender sees the same ones."""
    batch_size: Positive = 250


def _one_or_more(names: Any) -> Any:
    """Return one name, or a list of names, as a tuple; leave other things to be refused."""
    if isinstance(names, str):
        return (names,)
    return tuple(names) if isinstance(names, list) else names


class ExportSection(Section):
    """How the network becomes an .onnx file."""

    fold_bn: bool = True
    """Fold BatchNorm into the layer before it. When false, the graph keeps its BatchNorm."""
    opset: Annotated[int, Field(ge=18, le=24)] = 20
    target: Target = "cpu"
    """What the file is to run on, which decides the passes that are on by default. host: the CPU of
    this machine alone, with this onnxruntime."""
    passes: Annotated[
        tuple[str, ...], BeforeValidator(_one_or_more, json_schema_input_type=str | tuple[str, ...])
    ] = ("default",)
    """Passes over the ONNX graph, in order, see `bench list`; default: those that are on for the
    target, none: only notes are removed from the file, as always."""
    images: Annotated[int, Field(ge=1)] = 1000
    """Test images on which folding and parity are proven."""
    quantize: Quantize = "none"
    """Lower precision of a second file, made from the one in float32. int8: convolutions and matrix
    products in int8; int8_tables: the same, and what lies between them as tables, which onnxruntime
    computes faster on a CPU and other runtimes may not; float16: everything, for a GPU."""
    max_drop_points: Annotated[float, Field(ge=0, le=100)] = 0.5
    """Percentage points of accuracy that a lower precision may cost. As many nodes are in int8 as
    that allows on training images; a file that costs more is not benchmarked."""
    calibration_images: Positive = 512
    """Training images from which the ranges of tensors follow; at most half of all."""
    judged_images: Positive = 2000
    """Other training images, on which the drop is measured and nodes are chosen."""


class CompareSection(Section):
    """What is compared, and how long is measured."""

    backends: Annotated[tuple[str, ...], Field(min_length=1)] = ("torch", "ort")
    """File names in bench/backends/, see `bench list`."""
    devices: Annotated[tuple[Literal["auto", "cpu", "cuda"], ...], Field(min_length=1)] = ("auto",)
    """auto: the CPU, and CUDA where this machine has it."""
    batch_sizes: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 64)
    boundaries: Literal["auto", "host"] = "auto"
    """host: from a host array to a host array alone. auto: on a GPU also device-resident, with
    input and output in its memory, in rounds of their own."""
    rounds: Positive = 20
    """Clean rounds wanted at each batch size; a round times every contender once, in random order.
    A round in which something else ran is kept in the record, left out and replaced."""
    budget_s: Annotated[float, Field(gt=0, le=86400)] = 120.0
    """Most seconds that the rounds of all batch sizes may take together."""
    interval: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01
    """Stop early when the 95 % interval of every speed-up reaches no further than this share."""
    calls: Positive = 10
    """Least number of timed calls in a block; the percentile p95 needs 200 calls in all."""
    block_s: Annotated[float, Field(ge=0.0, le=60)] = 0.15
    """Least duration of a timed block, seconds."""
    settle_s: Annotated[float, Field(ge=0.0, le=60)] = 0.1
    """Untimed calls before each block, seconds."""
    warm_up_s: Annotated[float, Field(ge=0.0, le=60)] = 0.5
    """Least duration of the untimed calls before the first round, seconds; they go on until the
    times settle, six times as long at the most."""
    repeat: Positive = 1
    """How often the rounds are made as a whole."""
    pause_s: Annotated[float, Field(ge=0.0, le=3600)] = 60.0
    """Between two repetitions, seconds."""
    self_checks: bool = True
    """Time the reference against itself, and with one thread, in every round."""
    threads: Threads | None = None
    """For one operator, the same for every backend; all that this process may use by default."""
    seed: Seed = 0
    """Of the order of contenders."""


class Config(Section):
    """Everything `bench` needs to train, export and compare one network."""

    model: ModelSection
    data: DataSection = DataSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    export: ExportSection = ExportSection()
    compare: CompareSection = CompareSection()
    seed: Seed = 0
    """Of the weights' initial values, the order of images and their augmentation."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, for editors."""
    result = Config.model_json_schema()
    result["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    result["title"] = "foldbench configuration"
    result["properties"]["extends"] = {
        "description": "Configuration(s) that this one builds on: names or paths beside this file.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    result.pop("required", None)  # a part to build on need not name a model
    return result

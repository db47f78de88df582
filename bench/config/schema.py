"""What a configuration may say: every field with its type, its default and what it means."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from foldbench.bench.config.base import ConfigSection, Positive, Seed, Threads, refuse_repeats
from foldbench.bench.config.training import TrainSection
from foldbench.bench.records import Protocol, Quantize, Resize, Scenario, Target

Channels = tuple[float, float, float]


class ModelSection(ConfigSection):
    """Which network."""

    name: str
    """File name in models/, see `bench list`."""
    args: dict[str, Any] = Field(default={})
    """Arguments of the model's build function besides the classes and the input shape."""


class DataSection(ConfigSection):
    """Which images, and how they become the network's input."""

    name: str = "cifar10"
    """File name in bench/datasets/, see `bench list`."""
    path: Annotated[str, Field(min_length=1)] | None = None
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
    resize: Resize = Resize()
    """How images of another size are made to fit."""
    preprocessing: Literal["config", "weights"] = "config"
    """config: image_size, mean, std and resize as they stand here. weights: as the pretrained
    weights were evaluated; `bench train` fills them in."""
    label_pattern: str | None = None
    """Regular expression for the start of a file's name with one group around the class, for data
    sets that are named like that (flat, oxford_pets); by default the data set's own."""
    split: Literal["auto", "random", "stratified"] = "auto"
    """How flat and oxford_pets are split. auto: the published split, a stratified one where there
    is none. random and stratified: drawn with split_seed."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share of the images to test on, of a split that is drawn."""
    split_seed: Seed = 42
    subset: Positive | None = None
    """How many training images to train on, drawn at random with the seed; all by default."""


class TransferSection(ConfigSection):
    """A linear layer on the features of a pretrained network, which stay as they are.

    For model pretrained. The section train says how the linear layer is trained.
    """

    weights: str = "default"
    """default, a name of torchvision's such as IMAGENET1K_V1, a path to a .safetensors file, or
    none: random weights, with which only the latency means something."""
    download: bool = False
    """Whether the library may fetch weights that are not in its cache."""
    classifier: Literal["logistic", "adam"] = "logistic"
    """logistic: scikit-learn's LogisticRegression, the regularisation chosen on the share
    train.validation_fraction of the training images. adam: train.epochs of gradient descent; under
    train.protocol homework always in the same order."""
    candidates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (
        0.1,
        1.0,
        10.0,
        100.0,
        1000.0,
        10000.0,
    )
    """Values of scikit-learn's C to choose from: larger is less regularised."""
    stochastic_depth: bool = False
    """Take features with random layers left out and dropout, as the homework's code did, which
    never called eval()."""
    batch_size: Positive = 32
    """Images at a time while features are taken."""


class EvaluateSection(ConfigSection):
    """How accuracy on the test split is taken."""

    protocol: Protocol = "clean"
    """homework: test images are flipped and cropped at random, as the notebook's code did.
    clean: they are shown as they are."""
    seed: Seed = 0
    """Of the random flips and crops under protocol homework; every contender sees the same ones."""
    mirror: bool = False
    """Average the logits of each test image and of its mirror image: two runs of the network for
    one answer, which the report points out; latencies stay those of one."""
    batch_size: Positive = 250


def _one_or_more(names: Any) -> Any:
    """Return one name, or a list of names, as a tuple; leave other things to be refused."""
    if isinstance(names, str):
        return (names,)
    return tuple(names) if isinstance(names, list) else names


class ExportSection(ConfigSection):
    """How the network becomes an .onnx file."""

    fold_bn: bool = True
    """Fold BatchNorm into the layer before it. When false, the graph keeps its BatchNorm."""
    opset: Annotated[int, Field(ge=18, le=24)] = 20
    target: Target = "cpu"
    """What the file is to run on, which decides the passes that are on by default. host: the CPU of
    this machine alone, with this onnxruntime."""
    passes: Annotated[
        tuple[str, ...],
        BeforeValidator(_one_or_more, json_schema_input_type=str | tuple[str, ...]),
        AfterValidator(refuse_repeats),
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


class LoadgenSection(ConfigSection):
    """MLPerf Inference scenarios, which MLCommons' LoadGen drives in place of the rounds."""

    scenarios: Annotated[tuple[Scenario, ...], AfterValidator(refuse_repeats)] = ()
    """singlestream: one image after another. multistream: eight at once, one eight after another.
    offline: all images in one query. server: images arrive at random times. None: the rounds."""
    duration_s: Annotated[float, Field(ge=0.1, le=86400)] = 10.0
    """Least duration of each scenario and contender, seconds; MLPerf itself asks for 600."""
    qps: Annotated[float, Field(ge=0.1, le=100_000)] | None = None
    """Images that arrive per second, on average (server alone, which needs it)."""
    latency_bound_s: Annotated[float, Field(gt=0, le=3600)] = 0.01
    """What 99 % of the latencies must not exceed (server alone)."""
    batch_size: Positive | None = None
    """Largest batch of offline and server; the largest of compare.batch_sizes by default."""

    @model_validator(mode="after")
    def _server_has_a_rate(self) -> Self:
        if "server" in self.scenarios and self.qps is None:
            raise ValueError("scenario server needs qps, the images that arrive per second")
        return self


class CompareSection(ConfigSection):
    """What is compared, and how long is measured."""

    backends: Annotated[tuple[str, ...], Field(min_length=1)] = ("torch", "ort")
    """File names in bench/backends/, see `bench list`."""
    devices: Annotated[
        tuple[Literal["auto", "cpu", "cuda"], ...],
        Field(min_length=1),
        AfterValidator(refuse_repeats),
    ] = ("auto",)
    """auto: the CPU, and CUDA where this machine has it."""
    batch_sizes: Annotated[
        tuple[Positive, ...], Field(min_length=1), AfterValidator(refuse_repeats)
    ] = (1, 64)
    boundaries: Literal["auto", "host"] = "auto"
    """host: from a host array to a host array alone. auto: on a GPU also device-resident, with
    input and output in its memory, in rounds of their own."""
    rounds: Positive = 20
    """Clean rounds wanted at each batch size, on each device; a round times every contender there
    once, in random order. A round in which something else ran is kept in the record, left out and
    replaced."""
    budget_s: Annotated[float, Field(gt=0, le=86400)] = 120.0
    """Most seconds that the rounds of one device may take: all batch sizes, boundaries and
    repetitions together. On two devices a comparison may take twice that."""
    interval: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Stop early when the interval of every speed-up reaches no further than this share; 0: never.
    An interval that decided when to stop is no 95 % interval any more: it covers less."""
    calls: Positive = 10
    """Least number of timed calls in a block; the percentile p95 needs 200 calls in all. Blocks of
    a series of rounds are shortened, to 5 calls and 40 ms at the least, where 8 rounds would not
    fit the budget."""
    block_s: Annotated[float, Field(ge=0.0, le=60)] = 0.15
    """Least duration of a timed block, seconds; shortened like calls."""
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
    """Time the reference against itself in every round, and with one thread in every round at the
    smallest batch size."""
    arithmetic: bool = True
    """Measure this machine's peak throughput (matrix products, copies) before the rounds."""
    threads: Threads | None = None
    """For one operator, the same for every backend; all that this process may use by default."""
    seed: Seed = 0
    """Of the order of contenders; of LoadGen's choice of images and arrivals."""
    loadgen: LoadgenSection = LoadgenSection()


class Config(ConfigSection):
    """Everything `bench` needs to train, export and compare one network."""

    model: ModelSection
    data: DataSection = DataSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    export: ExportSection = ExportSection()
    compare: CompareSection = CompareSection()
    seed: Seed = 0
    """Of the weights' initial values, the order of images and their augmentation."""
    transfer: TransferSection | None = None
    """Train just a linear layer on frozen features."""

    @model_validator(mode="after")
    def _frozen_features_are_taken_once(self) -> Self:
        if self.transfer is None:
            if self.data.preprocessing == "weights":
                raise ValueError("data.preprocessing 'weights' needs a transfer section")
            return self
        augment, schedule = self.train.augment, self.train.schedule.name
        if self.model.name != "pretrained":
            raise ValueError(f"transfer is for model pretrained, not {self.model.name!r}")
        if augment.flip or augment.crop_padding:
            raise ValueError(
                "features are taken once of each image as it is: with transfer, set train.augment "
                "to {flip: false, crop_padding: 0}"
            )
        if schedule != "constant":
            raise ValueError(f"transfer trains at a constant rate; schedule.name is {schedule!r}")
        without_meaning = {
            "data.subset": self.data.subset is not None,
            "train.augment.cutout": augment.cutout > 0,
            "train.augment.cutmix": augment.cutmix > 0,
            "train.ema_decay": self.train.ema_decay > 0,
            "train.micro_batches": self.train.micro_batches > 1,
            "train.initial_weights": self.train.initial_weights != "default",
        }
        if any(without_meaning.values()):
            named = ", ".join(path for path, given in without_meaning.items() if given)
            raise ValueError(f"{named} has no meaning with transfer: leave it at its default")
        return self


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, for editors."""
    result = Config.model_json_schema()
    result["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    result["title"] = "foldbench configuration"
    result["properties"]["extends"] = {
        "description": "Configuration(s) that this one builds on: names or paths beside this file.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    # A part to build on need not name a model.
    result.pop("required", None)
    result["$defs"]["ModelSection"].pop("required", None)
    return result

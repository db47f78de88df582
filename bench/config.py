"""Configurations: YAML files that build on one another, validated against one schema.

Loading is inert: it reads YAML and nothing else. No network, device, environment variable or heavy
import is touched.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bench.errors import ConfigError, UnknownNameError, nearest
from bench.records import Protocol
from bench.registry import BACKENDS, DATASETS, MODELS, PASSES, Registry

Positive = Annotated[int, Field(ge=1)]
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
    threads: Positive | None = None
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
    seed: int = 0
    """Of the random flips and crops under protocol homework; every contender sees the same ones."""
    batch_size: Positive = 250


class ExportSection(Section):
    """How the network becomes an .onnx file."""

    fold_bn: bool = True
    """Fold BatchNorm into the layer before it. When false, the graph keeps its BatchNorm."""
    opset: Annotated[int, Field(ge=18, le=24)] = 20
    passes: tuple[str, ...] = ("strip_metadata",)
    """Passes over the ONNX graph, in order, see `bench list`."""
    images: Annotated[int, Field(ge=1)] = 1000
    """Test images on which folding and parity are proven."""


class CompareSection(Section):
    """What is compared, and how long is measured."""

    backends: Annotated[tuple[str, ...], Field(min_length=1)] = ("torch", "ort")
    devices: Annotated[tuple[Literal["auto", "cpu", "cuda"], ...], Field(min_length=1)] = ("auto",)
    """auto: the CPU, and CUDA where this machine has it."""
    batch_sizes: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 64)
    rounds: Positive = 10
    """Every round times every contender once, in random order."""
    calls: Positive = 20
    """Least number of timed calls in a block; percentile p95 needs 200 calls in all."""
    block_s: Annotated[float, Field(ge=0.0, le=60)] = 0.15
    """Least duration of a timed block, seconds."""
    settle_s: Annotated[float, Field(ge=0.0, le=60)] = 0.1
    """Untimed calls before each block, seconds."""
    threads: Positive | None = None
    """For one operator, the same for every backend; all that this process may use by default."""
    seed: int = 0
    """Of the order of contenders."""


class Config(Section):
    """Everything `bench` needs to train, export and compare one network."""

    model: ModelSection
    data: DataSection = DataSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    export: ExportSection = ExportSection()
    compare: CompareSection = CompareSection()
    seed: int = 0
    """Of the weights' initial values, the order of images and their augmentation."""


@dataclass(frozen=True)
class Loaded:
    """A validated configuration and where it came from."""

    name: str
    config: Config

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, defaults included, as JSON types."""
        return self.config.model_dump(mode="json")


def builtin_names() -> tuple[str, ...]:
    """Return the names of the configurations that come with foldbench (not their shared parts)."""
    folder = files("configs")
    names = (p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))
    return tuple(sorted(n for n in names if not n.startswith("_")))


def summary(name: str) -> str:
    """Return the first comment line of a configuration that comes with foldbench."""
    first = (files("configs") / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def to_yaml(value: Mapping[str, Any]) -> str:
    """Return `value` as YAML text that load() reads back."""
    stream = StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    writer.dump(dict(value), stream)
    return stream.getvalue()


def load(name: str, overrides: Sequence[str] = ()) -> Loaded:
    """Load the configuration `name` (built in, or a path to a YAML file) with ``a.b=c`` overrides.

    Raises ConfigError or UnknownNameError: one line with file, key path, what is allowed.
    """
    path = find(name)
    origins: dict[str, str] = {}
    merged = _load_merged(path, (), origins)
    for text in overrides:
        merged = _merge(merged, _parse_override(text), f"--set {text}", origins)
    return Loaded(path.stem, validate(merged, origins, str(path)))


def from_dict(value: Mapping[str, Any], overrides: Sequence[str], origin: str) -> Config:
    """Validate a resolved configuration (from a record read at `origin`) with overrides."""
    origins: dict[str, str] = {}
    merged = dict(value)
    for text in overrides:
        merged = _merge(merged, _parse_override(text), f"--set {text}", origins)
    return validate(merged, origins, origin)


def find(name: str) -> Path:
    """Return the YAML file that `name` stands for; raise UnknownNameError when there is none."""
    looks_like_path = name.endswith((".yaml", ".yml")) or "/" in name or "\\" in name
    if looks_like_path:
        path = Path(name)
        if not path.is_file():
            raise UnknownNameError(
                f"no configuration file {name!r}: give a path to a YAML file, or one of "
                f"{', '.join(builtin_names())}"
            )
        return path
    known = builtin_names()
    if name not in known:
        raise UnknownNameError(
            f"unknown config {name!r}{nearest(name, known)} "
            f"(known: {', '.join(known)}; or a path to a YAML file)"
        )
    return Path(str(files("configs") / f"{name}.yaml"))


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


def validate(value: Mapping[str, Any], origins: Mapping[str, str], fallback: str) -> Config:
    """Validate merged YAML; `origins` says which file or option set each key path."""
    try:
        config = Config.model_validate_json(json.dumps(value, allow_nan=False))
    except ValidationError as error:
        raise ConfigError(_explain(error, origins, fallback)) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{fallback}: {error}: use plain YAML numbers, text and lists") from None
    _check_names(config, origins, fallback)
    return config


def _check_names(config: Config, origins: Mapping[str, str], fallback: str) -> None:
    named: tuple[tuple[str, Registry, Iterable[str]], ...] = (
        ("model.name", MODELS, (config.model.name,)),
        ("data.name", DATASETS, (config.data.name,)),
        ("export.passes", PASSES, config.export.passes),
        ("compare.backends", BACKENDS, config.compare.backends),
    )
    for path, registry, names in named:
        for name in names:
            try:
                registry.check(name)
            except UnknownNameError as error:
                raise ConfigError(f"{_origin(path, origins, fallback)}: {path}: {error}") from None


def _load_merged(path: Path, above: tuple[Path, ...], origins: dict[str, str]) -> dict[str, Any]:
    if path.resolve() in above:
        chain = " -> ".join(p.name for p in (*above, path))
        raise ConfigError(f"{path}: extends itself: {chain}: remove one of the links")
    value = _read_yaml(path)
    parents = value.pop("extends", [])
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(p, str) for p in parents):
        raise ConfigError(f"{path}: extends: found {parents!r}; allowed: a name or a list of names")
    merged: dict[str, Any] = {}
    for parent in parents:
        parent_path = _find_parent(parent, path)
        inherited = _load_merged(parent_path, (*above, path.resolve()), origins)
        merged = _merge(merged, inherited, None, origins)
    return _merge(merged, value, str(path), origins)


def _find_parent(name: str, child: Path) -> Path:
    beside = child.parent / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if beside.is_file():
        return beside
    builtin = Path(str(files("configs") / f"{name}.yaml"))
    if builtin.is_file():
        return builtin
    known = sorted(
        {p.stem for p in child.parent.glob("*.yaml")}
        | {p.stem for p in builtin.parent.glob("*.yaml")}
    )
    raise ConfigError(
        f"{child}: extends: no configuration {name!r} beside it or built in"
        f"{nearest(name, known)} (known: {', '.join(known)})"
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: give a YAML file") from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{path}{line}: is not valid YAML: {problem}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}: holds {_shown(value)}; allowed: keys such as 'model:', 'train:'"
        )
    return value


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {text}: write it as key.path=value, such as train.epochs=2")
    try:
        value = YAML(typ="safe", pure=True).load(raw)
    except YAMLError:
        raise ConfigError(f"--set {text}: the value {raw!r} is not valid YAML") from None
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _merge(
    base: Mapping[str, Any],
    over: Mapping[Any, Any],
    origin: str | None,
    origins: dict[str, str],
    prefix: str = "",
) -> dict[str, Any]:
    """Return `base` with `over` laid on top, mappings key by key; note each key's `origin`."""
    result = dict(base)
    for key, value in over.items():
        path = f"{prefix}{key}"
        if origin is not None:
            origins[path] = origin
        mine = result.get(key)
        if isinstance(value, dict):
            mine = mine if isinstance(mine, dict) else {}
            result[str(key)] = _merge(mine, value, origin, origins, f"{path}.")
        else:
            result[str(key)] = value
    return result


def _explain(error: ValidationError, origins: Mapping[str, str], fallback: str) -> str:
    """Return one line for the first fault: file, key path, what was found, what is allowed."""
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    location = fault["loc"]
    path = ".".join(str(part) for part in location)
    where = f"{_origin(path, origins, fallback)}: {path or 'the file'}"
    if fault["type"] == "extra_forbidden":
        allowed = _fields_at(location[:-1])
        near = nearest(str(location[-1]), allowed)
        return f"{where}: unknown key{near} (allowed: {', '.join(allowed)})"
    if fault["type"] == "missing":
        return f"{where}: is missing: give it in the file or with --set {path}=..."
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{where}: {message}"
    near = nearest(fault["input"], _literals(fault)) if isinstance(fault["input"], str) else ""
    allowed = message.removeprefix("Input should be ")
    return f"{where}: found {_shown(fault['input'])}; allowed: {allowed}{near}"


def _literals(fault: Any) -> list[str]:
    expected = str(fault.get("ctx", {}).get("expected", ""))
    return [part.strip("' ") for part in expected.replace(" or ", ",").split(",")]


def _fields_at(location: Sequence[int | str]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        inner = [annotation, *get_args(annotation)]
        section = next(t for t in inner if isinstance(t, type) and issubclass(t, BaseModel))
    return list(section.model_fields)


def _origin(path: str, origins: Mapping[str, str], fallback: str) -> str:
    while path:
        if path in origins:
            return origins[path]
        path = path.rpartition(".")[0]
    return fallback


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:59] + "…"

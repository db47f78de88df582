"""The configuration of a network of the user's own: from its source alone, with what is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foldbench.bench.config.files import Loaded, from_dict
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import ConfigError, cut
from foldbench.bench.records import Preprocessing
from foldbench.bench.user_code.source import parse_source

_OF_INPUT = ("image_size", "mean", "std", "resize")
_LARGEST_CLASSES_FILE_BYTES = 2**26


def source_config(text: str, overrides: Sequence[str], name: str | None = None) -> Loaded:
    """Return the configuration that has `text` as its network, with ``a.b=c`` overrides.

    A path in `text` is relative to the current folder. Raises ConfigError.
    """
    source = parse_source(text)
    values = {"model": {"from": source.absolute(Path.cwd())}}
    return Loaded(name or source.name, from_dict(values, overrides, text))


def with_known_input(
    loaded: Loaded, known: Preprocessing | None, is_scale_known: bool = True
) -> tuple[Loaded, tuple[str, ...]]:
    """Return the configuration with input and images filled in, and what was taken for granted.

    What the configuration says goes before what is `known` of the network; mean and std are only
    assumed there unless `is_scale_known`. Raises ConfigError where the input's shape is neither
    said nor known.
    """
    config, notes = loaded.config, []
    given = config.data.model_fields_set
    data: dict[str, Any] = {}
    if known is not None:
        found = {
            "image_size": _size(known),
            "mean": list(known.mean),
            "std": list(known.std),
            "resize": known.resize.model_dump(mode="json"),
        }
        if "channels" not in given:
            data["channels"] = known.input_shape[0]
        elif config.data.channels != known.input_shape[0]:
            del found["mean"], found["std"]  # they are for the channels that were known
            is_scale_known = False
        data |= {key: value for key, value in found.items() if key not in given}
        if "image_size" in given and config.data.image_size != _size(known):
            data.pop("resize", None)  # it is for the size that was known
    elif "image_size" not in given:
        raise ConfigError(
            f"{loaded.name}: the shape of its input is not known: give it, such as "
            "--input 3x224x224 (data.image_size)"
        )
    if not {"mean", "std"} <= given and (known is None or not is_scale_known):
        missing = [key for key in ("mean", "std") if key not in given]
        notes.append(
            f"{' and '.join(missing)} not given: pixels are scaled to -1..1 (mean 0.5, std 0.5); "
            "--mean and --std say otherwise"
        )
    if "name" not in given:
        data["name"] = "images" if config.data.path else "noise"
    values = config.model_dump(mode="json")
    values["data"] |= data
    return Loaded(loaded.name, from_dict(values, (), loaded.name)), tuple(notes)


def _size(known: Preprocessing) -> int | tuple[int, int]:
    _, height, width = known.input_shape
    return height if height == width else (height, width)


def class_names_of(config: Config) -> tuple[int | None, tuple[str, ...] | None]:
    """Return number and names of the classes, as far as ``model.classes`` says them.

    Raises ConfigError for a file that is missing, empty or names a class twice.
    """
    said = config.model.classes
    if not isinstance(said, str):
        return said, None
    if said.isdecimal():
        return int(said), None
    path = Path(said).expanduser()
    try:
        if path.stat().st_size > _LARGEST_CLASSES_FILE_BYTES:
            raise ConfigError(f"{path}: is too large for a list of classes: give one name a line")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(
            f"model.classes: {path}: {error.strerror}: give a number, or a text file with a name "
            "on each line"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"model.classes: {path}: is not UTF-8 text") from error
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        where = f"line {names.index('') + 1} is empty" if names else "is empty"
        raise ConfigError(f"model.classes: {path}: {where}; allowed: a name on each line")
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if name in seen:
            raise ConfigError(
                f"model.classes: {path}: line {number}: {cut(name, 60)!r} is there twice: name "
                "each class once"
            )
        seen.add(name)
    return len(names), tuple(names)

"""Merged YAML becomes a configuration, or one line about the first fault in it."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from foldbench.bench.config.backend_spec import Spec, parse_spec
from foldbench.bench.config.schema import Config
from foldbench.bench.config.yaml_files import shown
from foldbench.bench.errors import ConfigError, UnknownNameError, nearest
from foldbench.bench.registry import DATASETS, MODELS, PASSES

_KIND = re.compile(r"constrained-\w+|(?:literal|list|tuple|dict|function-\w+)\[.*")
"""What pydantic adds to a path: which of the kinds that are allowed there it tried."""


def validate(value: Mapping[str, Any], origins: Mapping[str, str], fallback: str) -> Config:
    """Validate merged YAML; `origins` says which file or option set each key path."""
    try:
        config = Config.model_validate_json(json.dumps(value, allow_nan=False))
    except ValidationError as error:
        raise ConfigError(_explain(error, origins, fallback)) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{fallback}: {error}: use plain YAML numbers, text and lists") from None
    _check_names(config, origins, fallback)
    _check_backends_differ(config, _origin("compare.backends", origins, fallback))
    return config


def _check_names(config: Config, origins: Mapping[str, str], fallback: str) -> None:
    named: tuple[tuple[str, Callable[[str], object], Iterable[str]], ...] = (
        ("model.name", MODELS.check, () if config.model.name is None else (config.model.name,)),
        ("data.name", DATASETS.check, (config.data.name,)),
        ("export.passes", _check_pass, config.export.passes),
        ("compare.backends", parse_spec, config.compare.backends),
    )
    for path, check, names in named:
        for name in names:
            try:
                check(name)
            except (UnknownNameError, ConfigError) as error:
                raise ConfigError(f"{_origin(path, origins, fallback)}: {path}: {error}") from None


def _check_backends_differ(config: Config, origin: str) -> None:
    """Raise ConfigError for a backend that stands there twice, however it is written."""
    seen: list[Spec] = []
    for text in config.compare.backends:
        spec = parse_spec(text)
        if spec in seen:
            raise ConfigError(
                f"{origin}: compare.backends: {text!r} is given twice: give each backend once"
            )
        seen.append(spec)


def _check_pass(name: str) -> None:
    if name not in ("default", "none"):
        PASSES.check(name)


def _explain(error: ValidationError, origins: Mapping[str, str], fallback: str) -> str:
    """Return one line for the first fault: file, key path, what was found, what is allowed."""
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    location = fault["loc"]
    path = ".".join(part for part in map(str, location) if not _KIND.fullmatch(part))
    where = f"{_origin(path, origins, fallback)}: {path or 'the file'}"
    if fault["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        near = nearest(str(location[-1]), known)
        return f"{where}: unknown key{near} (allowed: {', '.join(known)})"
    if fault["type"] == "missing" and isinstance(location[-1], int):
        above = ".".join(str(part) for part in location[:-1])
        return f"{where.removesuffix(path)}{above}: found {location[-1]} values; allowed: more"
    if fault["type"] == "missing":
        return f"{where}: is missing: give it in the file or with --set {path}=..."
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{where}: {message}"
    near = nearest(fault["input"], _literals(fault)) if isinstance(fault["input"], str) else ""
    allowed = _plain_words(message.removeprefix("Input should be "))
    return f"{where}: found {shown(fault['input'])}; allowed: {allowed}{near}"


def _plain_words(allowed: str) -> str:
    """Return what is allowed in the words of YAML."""
    for jargon, word in (("an object", "keys and values"), ("a valid array", "a list")):
        allowed = allowed.replace(jargon, word)
    return re.sub(r"^(?:Tuple|List) should have (.*?) after validation.*", r"\1", allowed)


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

"""YAML to and from plain values, and one line for what is no YAML or no plain value."""

import json
from collections.abc import Mapping
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from foldbench.bench.errors import ConfigError, cut


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys in the YAML file `path`; raise ConfigError when it holds anything else."""
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: give a YAML file") from error
    except (YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{path}{line}: is not valid YAML: {problem}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: holds {shown(value)}; allowed: keys such as 'model:', 'train:'")
    return value


def parse_yaml(text: str, origin: str, path: str = "") -> Any:
    """Return the YAML `text` as JSON types; ConfigError names its `origin` and the key `path`."""
    try:
        value = YAML(typ="safe", pure=True).load(text)
        _check_plain(value, origin, path)
    except RecursionError:
        raise ConfigError(f"{origin}: an alias (*name) stands inside what it names") from None
    return value


def _check_plain(value: Any, origin: str, path: str) -> None:
    """Raise ConfigError for what JSON cannot hold: infinities, dates, sets, bytes."""
    where = f"{origin}: {path or 'the file'}"
    if isinstance(value, dict):
        for key, part in value.items():
            _check_plain(part, origin, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for part in value:
            _check_plain(part, origin, path)
    elif isinstance(value, float) and not isfinite(value):
        raise ConfigError(f"{where}: found {value}; allowed: a finite number")
    elif not isinstance(value, str | int | float | None):
        raise ConfigError(
            f"{where}: found {shown(value)}; allowed: plain numbers, text, lists and keys"
        )


def shown(value: Any) -> str:
    """Return `value` as it is shown in an error."""
    return cut(json.dumps(value, default=str), 60)


def to_yaml(value: Mapping[str, Any]) -> str:
    """Return `value` as YAML text that load() reads back."""
    stream = StringIO()
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    writer.dump(dict(value), stream)
    return stream.getvalue()

"""Configuration files: which one is meant, and YAML that builds on other YAML.

Loading is inert: it reads YAML and nothing else. No network, device, environment variable or heavy
import is touched.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from foldbench.bench import units
from foldbench.bench.config.schema import Config
from foldbench.bench.config.validation import validate
from foldbench.bench.config.yaml_files import parse_yaml, read_yaml, shown
from foldbench.bench.errors import ConfigError, UnknownNameError, cut, listed, nearest
from foldbench.bench.store.files import is_weights_file
from foldbench.bench.user_code.source import is_source, parse_source

_MODEL = "model."
_MOST_PARENTS = 50
"""Files that a configuration may build on."""


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
    folder = files("foldbench.configs")
    names = (p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))
    return tuple(sorted(n for n in names if not n.startswith("_")))


def summary(name: str) -> str:
    """Return the first comment line of a configuration that comes with foldbench."""
    first = (
        (files("foldbench.configs") / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    )
    return first.lstrip("# ") if first.startswith("#") else ""


def load(name: str, overrides: Sequence[str] = ()) -> Loaded:
    """Load the configuration `name` (built in, or a path to a YAML file) with ``a.b=c`` overrides.

    Raises ConfigError or UnknownNameError: one line with file, key path, what is allowed.
    """
    path = find(name)
    merged, origins = _load_merged(path, (), {})
    for text in overrides:
        override = with_absolute_paths(_parse_override(text), Path.cwd())
        merged = _merge(merged, override, f"--set {text}", origins)
    return Loaded(path.stem, validate(merged, origins, str(path)))


def from_dict(value: Mapping[str, Any], overrides: Sequence[str], origin: str) -> Config:
    """Validate a resolved configuration (from a record read at `origin`) with overrides."""
    origins: dict[str, str] = {}
    merged = dict(value)
    for text in overrides:
        override = with_absolute_paths(_parse_override(text), Path.cwd())
        merged = _merge(merged, override, f"--set {text}", origins)
    return validate(merged, origins, origin)


def find(name: str) -> Path:
    """Return the YAML file that `name` stands for; raise UnknownNameError when there is none."""
    looks_like_path = name.endswith((".yaml", ".yml")) or "/" in name or "\\" in name
    if looks_like_path:
        path = Path(name)
        if not _is_file(path):
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
    return Path(str(files("foldbench.configs") / f"{name}.yaml"))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


Merged = tuple[dict[str, Any], dict[str, str]]
"""Keys and values of a file and all that it builds on, and which file set each key path."""


def _load_merged(path: Path, above: tuple[Path, ...], known: dict[Path, Merged]) -> Merged:
    """Return `path` merged; each file is read once, however many others build on it."""
    place = path.resolve()
    if place in known:
        return known[place]
    if place in above:
        chain = " -> ".join(p.name for p in (*above, path))
        raise ConfigError(f"{path}: extends itself: {chain}: remove one of the links")
    if max(len(above), len(known)) >= _MOST_PARENTS:
        raise ConfigError(
            f"{path}: extends: is one of more than {_MOST_PARENTS} files; allowed: fewer"
        )
    value = with_absolute_paths(read_yaml(path), place.parent)
    named = value.pop("extends", [])
    parents = [named] if isinstance(named, str) else named
    if not isinstance(parents, list) or not all(isinstance(p, str) for p in parents):
        raise ConfigError(
            f"{path}: extends: found {shown(named)}; allowed: a name or a list of names"
        )
    if len(parents) > _MOST_PARENTS:
        raise ConfigError(
            f"{path}: extends: found {units.count(len(parents))} names; allowed: {_MOST_PARENTS}"
        )
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for parent in parents:
        found = _load_merged(_find_parent(parent, path), (*above, place), known)
        merged = _merge(merged, found[0], None, origins)
        origins |= found[1]
    known[place] = _merge(merged, value, str(path), origins), origins
    return known[place]


def with_absolute_paths(value: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return keys and values with every path made absolute, so that it stays true elsewhere.

    They are relative to `folder`, where the file lies that says them.
    """
    result = dict(value)
    for key, make_absolute in _PATHS.items():
        section, _, name = key.partition(".")
        fields = result.get(section)
        if isinstance(fields, dict) and isinstance(fields.get(name), str) and fields[name]:
            result[section] = {**fields, name: make_absolute(fields[name], folder)}
    return result


def _absolute(path: str, folder: Path) -> str:
    return os.path.abspath(os.path.join(folder, os.path.expanduser(path)))


def _absolute_source(text: str, folder: Path) -> str:
    return parse_source(text).absolute(folder) if is_source(text) else text


def _absolute_weights(text: str, folder: Path) -> str:
    return _absolute(text, folder) if is_weights_file(text) else text


def _absolute_classes(text: str, folder: Path) -> str:
    return text if text.isdecimal() else _absolute(text, folder)


_PATHS: Mapping[str, Callable[[str, Path], str]] = {
    "data.path": _absolute,
    "data.calibration_path": _absolute,
    "model.from": _absolute_source,
    "model.weights": _absolute_weights,
    "model.classes": _absolute_classes,
}
"""Fields that hold paths, or can."""


def _find_parent(name: str, child: Path) -> Path:
    beside = child.parent / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if _is_file(beside):
        return beside
    builtin = Path(str(files("foldbench.configs") / f"{name}.yaml"))
    if _is_file(builtin):
        return builtin
    known = sorted(
        {p.stem for p in child.parent.glob("*.yaml") if p != child}
        | {p.stem for p in builtin.parent.glob("*.yaml")}
    )
    raise ConfigError(
        f"{child}: extends: no configuration {name!r} beside it or built in"
        f"{nearest(name, known)} (known: {listed(known)})"
    )


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {text}: write it as key.path=value, such as train.epochs=2")
    try:
        value = parse_yaml(raw, f"--set {text}", key)
    except (YAMLError, ValueError):
        raise ConfigError(f"--set {key}: the value {cut(raw, 60)!r} is not valid YAML") from None
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
    if prefix == _MODEL:  # either says which network, in place of the other
        for key, other in (("name", "from"), ("from", "name")):
            if key in over:
                result.pop(other, None)
    for key, value in over.items():
        path = f"{prefix}{key}"
        mine = result.get(key)
        if isinstance(value, dict):
            if not prefix and mine is not None and not isinstance(mine, dict):
                where = origins.get(path, "")
                raise ConfigError(f"{where}: {path}: found {mine!r}; allowed: keys and values")
            mine = mine if isinstance(mine, dict) else {}
            result[str(key)] = _merge(mine, value, origin, origins, f"{path}.")
        else:
            result[str(key)] = value
        if origin is not None:
            origins[path] = origin
    return result

"""Writing a configuration that builds on another one and holds only what differs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foldbench.bench.config.files import Loaded, load
from foldbench.bench.config.yaml_files import to_yaml
from foldbench.bench.errors import ConfigError
from foldbench.bench.records import Hyperparameters
from foldbench.bench.store.files import write_text


def refuse_target(path: Path) -> None:
    """Raise ConfigError when a configuration cannot be written to `path`, or would replace one."""
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: found the suffix {path.suffix!r}; allowed: .yaml")
    if path.exists():
        raise ConfigError(f"{path} exists already: give another name, or delete it")


def write_choice(path: Path, base: str, loaded: Loaded, choice: Hyperparameters) -> None:
    """Write the configuration `loaded`, which is `base` with overrides, with a search's choice.

    Where the images are on this machine is not written: --data says it.
    """
    config_values = loaded.as_dict()
    config_values["train"] |= choice.model_dump()
    config_values["data"]["path"] = None
    changed = _difference(load(base).as_dict(), config_values)
    looks_like_path = base.endswith((".yaml", ".yml"))
    parent = os.path.relpath(base, path.parent) if looks_like_path else base
    write_text(path, to_yaml({"extends": parent, **changed}))


def _difference(base: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be laid on `base`, mappings key by key, to get `changed`."""
    result: dict[str, Any] = {}
    for key, value in changed.items():
        before = base.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = _difference(before, value)
            if inner:
                result[key] = inner
        elif value != before:
            result[key] = value
    return result

"""The configuration that a run is exported and compared with, less what training has fixed."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.config import Config
from bench.config_files import from_dict
from bench.errors import ConfigError
from bench.records import Checkpoint
from bench.runs import RunDirectory


def fixed_by_training(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return, by key path, the values of a resolved configuration that the weights follow from."""
    fixed = {
        f"{section}.{key}": value
        for section in ("model", "train")
        for key, value in resolved[section].items()
    }
    fixed |= {f"data.{key}": resolved["data"][key] for key in ("image_size", "mean", "std")}
    return {**fixed, "seed": resolved["seed"]}


def settings_of(run: RunDirectory, checkpoint: Checkpoint, overrides: Sequence[str]) -> Config:
    """Return the run's configuration as it was last given to `train`, with overrides.

    Raises ConfigError for an override of what training has fixed.
    """
    origin = run.path / "run.json"
    config = from_dict(run.meta().get("config", checkpoint.config), overrides, str(origin))
    now = fixed_by_training(config.model_dump(mode="json"))
    for path, then in fixed_by_training(checkpoint.config).items():
        if now[path] != then:
            raise ConfigError(
                f"{path}: is {then} since run {run.name} was trained, and cannot be {now[path]} "
                f"for it: train another run, bench train {run.config_name} --set {path}=..."
            )
    return config

"""The configuration that a run is exported and compared with, less what training has fixed."""

from collections.abc import Mapping, Sequence
from typing import Any

from foldbench.bench.config.files import from_dict
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import ConfigError
from foldbench.bench.records import Checkpoint
from foldbench.bench.store.directory import RunDirectory
from foldbench.models.transfer.fit import weights_identity

_OF_DATA = ("image_size", "mean", "std")
_OF_DATA_LATER = (
    *("channels", "resize", "preprocessing"),
    *("label_pattern", "split", "test_fraction", "split_seed", "subset"),
)
_OF_TRAIN_LATER = (
    *("decay_norm_and_bias", "norm_bias_factor", "decoupled", "ema_decay", "initial_weights"),
    *("compile", "micro_batches"),
)
_OF_MODEL_LATER = (
    *("from", "weights", "weights_key", "strip_prefix"),
    *("classes", "output", "download"),
)
_OF_AUGMENT_LATER = ("alternating_flip", "crop_edge", "cutout", "cutmix")
"""Fields that came later: at their defaults they are no part of the key of a training, so that
trainings from before are still found."""


def fixed_by_training(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return, by key path, the values of a resolved configuration that the weights follow from."""
    fixed = {
        f"{section}.{key}": value
        for section in ("model", "train")
        for key, value in resolved[section].items()
    }
    fixed |= {f"data.{key}": resolved["data"][key] for key in (*_OF_DATA, *_OF_DATA_LATER)}
    fixed |= {f"transfer.{key}": value for key, value in (resolved["transfer"] or {}).items()}
    return {**fixed, "seed": resolved["seed"]}


def training_settings(config: Config) -> dict[str, Any]:
    """Return what the weights follow from as JSON types, the same wherever a weights file lies."""
    fixed = fixed_by_training(config.model_dump(mode="json"))
    default = fixed_by_training(Config(model=config.model).model_dump(mode="json"))
    later = {f"data.{key}" for key in _OF_DATA_LATER}
    later |= {f"train.{key}" for key in _OF_TRAIN_LATER}
    settings = {k: v for k, v in fixed.items() if k not in later or v != default[k]}
    for key in _OF_MODEL_LATER:
        if settings[f"model.{key}"] in (None, False):
            del settings[f"model.{key}"]
    settings["train.augment"] = {
        key: value
        for key, value in fixed["train.augment"].items()
        if key not in _OF_AUGMENT_LATER or value != default["train.augment"][key]
    }
    if config.transfer is not None:
        settings["transfer.weights"] = weights_identity(config)
    return settings


def settings_of(run: RunDirectory, checkpoint: Checkpoint, overrides: Sequence[str]) -> Config:
    """Return the run's configuration as it was last given to `train`, with overrides.

    Raises ConfigError for an override of what training has fixed.
    """
    origin = run.path / "run.json"
    given = run.meta().get("config") or checkpoint.config
    # The same weights may lie elsewhere by now; those that were used are the checkpoint's.
    given = {**given, "transfer": checkpoint.config.get("transfer")}
    config = from_dict(given, overrides, str(origin))
    then_config = from_dict(checkpoint.config, (), str(run.path / "checkpoint.json"))
    now = fixed_by_training(config.model_dump(mode="json"))
    then = fixed_by_training(then_config.model_dump(mode="json"))
    for path in {**then, **now}:
        if now.get(path) != then.get(path):
            raise ConfigError(
                f"{path}: is {then.get(path)} since run {run.name} was trained, and cannot be "
                f"{now.get(path)} for it: train another run, bench train {run.config_name} "
                f"--set {path}=..."
            )
    return config

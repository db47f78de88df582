"""The configuration that a run is exported and compared with, less what training has fixed."""

from collections.abc import Sequence

from bench.config import Config
from bench.config_files import from_dict
from bench.errors import ConfigError
from bench.records import Checkpoint
from bench.runs import RunDirectory

_FIXED_BY_TRAINING: dict[str, tuple[str, ...]] = {
    "model": (),
    "train": (),
    "data": ("image_size", "mean", "std"),
}
"""Section -> keys that the weights depend on; all of the section's where none is named."""


def settings_of(run: RunDirectory, checkpoint: Checkpoint, overrides: Sequence[str]) -> Config:
    """Return the run's configuration as it was last given to `train`, with overrides.

    Raises ConfigError for an override of what training has fixed.
    """
    origin = run.path / "run.json"
    config = from_dict(run.meta().get("config", checkpoint.config), overrides, str(origin))
    now, then = config.model_dump(mode="json"), checkpoint.config
    for section, keys in _FIXED_BY_TRAINING.items():
        for key in keys or now[section]:
            if now[section][key] != then[section][key]:
                raise ConfigError(
                    f"{section}.{key}: is {then[section][key]} since run {run.name} was trained, "
                    f"and cannot be {now[section][key]} for it: train another run, "
                    f"bench train {run.config_name} --set {section}.{key}=..."
                )
    return config

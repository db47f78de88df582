"""What tells one training from another: the hash of everything that its weights follow from.

Code is known by version numbers, not by its text: a comment must not cost hours of training anew.
`tests/contracts/test_versions.py` holds every version to what its code computes, so that none is
forgotten. torch's version is no part of it: it is in the checkpoint's record.
"""

from typing import Any

from foldbench.bench.config.schema import Config
from foldbench.bench.errors import ConfigError
from foldbench.bench.registry import MODELS
from foldbench.bench.stages.settings import training_settings
from foldbench.bench.store.files import json_sha256

_BEFORE_VERSIONS = {
    ("bn_cnn", 1): "cd94a5192a818845cbc0e6957b126bb581d35d7a7bd408332f551fc49e806398",
    ("deep_mish", 1): "22406ddb4a3b368faff50eeda5bba49f280e287dba1ad6b7616562d1ba9127a8",
    ("mish_cnn", 1): "3e69dec274b72e862c79e83965b8a5d59e1615c3680acee08fb5ec6397e07bc6",
    ("pretrained", 1): "781377a5b8ea32d7fda6c89fee2842fdd65885e742823884e2bf9ea92d11f4fe",
}
"""The sha256 of a network's file, which stood for what is now its version: trainings from before
are still found."""


def training_key(config: Config, images_sha256: str) -> str:
    """Return the key of a training of `config` on images of that sha256."""
    return json_sha256(
        {"settings": training_settings(config), "images": images_sha256, **code_versions(config)}
    )


def code_versions(config: Config) -> dict[str, Any]:
    """Return, as JSON types, which code gives a training of `config` its weights.

    Raises ConfigError for a network without a version.
    """
    from foldbench.models.training import loop
    from foldbench.models.transfer import fit

    procedure = loop.VERSION if config.transfer is None else fit.VERSION
    # At 1 it is no part of the key, as before there were versions.
    trained_by = {"procedure": procedure} if procedure > 1 else {}
    name = config.model.name
    if name is None:
        return {"network": config.model.source, **trained_by}
    version = getattr(MODELS.load(name), "VERSION", None)
    if not isinstance(version, int):
        raise ConfigError(
            f"model {name!r} has no whole number VERSION, by which its trainings are found again: "
            "set VERSION = 1 in its file, and raise it whenever the network computes otherwise"
        )
    return {"network": _BEFORE_VERSIONS.get((name, version), version), **trained_by}

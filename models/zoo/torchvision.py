"""Classifiers of torchvision: how they are made, and what their weights' metadata say."""

import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from foldbench.bench.errors import CheckpointError, ConfigError, one_line
from foldbench.bench.records import Preprocessing, Resize
from foldbench.bench.store.files import is_weights_file
from foldbench.models.building.foreign_weights import read_weights


@cache
def names() -> frozenset[str]:
    """Return the names of all classifiers."""
    return frozenset(list_models(module=torchvision.models))


def create(arch: str, **args: Any) -> nn.Module:
    """Return the network with random weights."""
    return get_model(arch, weights=None, **args)


def locate(arch: str, weights: str, download: bool) -> tuple[Path, str]:
    """Return the cached file of the weights and their name; fetch it where that is allowed.

    Raises CheckpointError when it is not there and may not or cannot be fetched.
    """
    entry = _entry(arch, weights)
    name = Path(urlparse(entry.url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        if not download:
            raise CheckpointError(
                f"the weights {entry.name} of {arch} are not on this machine ({path}): "
                f"--download (transfer.download=true) lets torchvision fetch {entry.url}, or give "
                "--weights FILE (transfer.weights)"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            prefix = path.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(entry.url, str(path), prefix, progress=False)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot fetch {entry.url} into {path.parent}: {one_line(error, 120)}: check the "
                "network, or give --weights FILE (transfer.weights)"
            ) from error
    return path, entry.name


def read(arch: str, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in the fetched file, which has been checked, with their names of today."""
    return {_OLD_NAME.sub(r"\1\2", name): value for name, value in read_weights(path).items()}


_OLD_NAME = re.compile(r"(\bdenselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
"""How DenseNet's files call what the network calls norm1, and so on."""


def preprocessing_of(arch: str, weights: str) -> Preprocessing:
    """Return the evaluation transform of the weights as a record."""
    preset = _entry(arch, weights).transforms()
    try:
        (size,), (shorter,) = preset.crop_size, preset.resize_size
        return Preprocessing(
            input_shape=(3, size, size),
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            resize=Resize(
                shorter_side=max(shorter, size), interpolation=preset.interpolation.value
            ),
        )
    except (AttributeError, ValueError) as error:
        raise ConfigError(
            f"the preprocessing of torchvision's {arch} is not one that is known here: "
            f"{one_line(error, 120)}: choose another network, or set data.preprocessing to config"
        ) from error


def classes_of(arch: str, module: nn.Module) -> tuple[str, ...]:
    """Return ImageNet's class names."""
    return tuple(_entry(arch, "default").meta["categories"])


def _entry(arch: str, weights: str) -> Any:
    """Return the weights' entry in torchvision's list; the default one for a file or for none."""
    entries = get_model_weights(arch)
    if weights in ("default", "none") or is_weights_file(weights):
        return entries.DEFAULT
    known = [entry.name for entry in entries]
    if weights not in known:
        raise ConfigError(
            f"torchvision's {arch} has no weights {weights!r} (known: {', '.join(known)}, default, "
            "none, or the path of a file)"
        )
    return entries[weights]

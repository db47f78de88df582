"""Networks of timm: how they are made, and what their configuration for data says."""

import logging
import math
from functools import cache
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config
from torch import Tensor, nn

from foldbench.bench import units
from foldbench.bench.errors import CheckpointError, ConfigError, one_line
from foldbench.bench.records import Preprocessing, Resize

_FILE = "model.safetensors"


@cache
def names() -> frozenset[str]:
    """Return the names of all networks, with and without the tag that chooses weights."""
    return frozenset((*timm.list_models(), *timm.list_pretrained()))


def create(arch: str, **args: Any) -> nn.Module:
    """Return the network with random weights."""
    return timm.create_model(arch, pretrained=False, **args)


def locate(arch: str, weights: str, download: bool) -> tuple[Path, str]:
    """Return the cached file of the weights and their name; fetch it where that is allowed.

    Raises CheckpointError when it is not there and may not or cannot be fetched.
    """
    if weights != "default":
        raise ConfigError(
            f"timm's {arch} has no weights {weights!r}: a tag in the name chooses them, such as "
            "resnet50.a1_in1k; allowed here: default, none, or the path of a file"
        )
    settings = timm.get_pretrained_cfg(arch)
    if settings is None or not settings.hf_hub_id:
        raise CheckpointError(
            f"timm has no weights for {arch} on its hub: give --weights FILE (transfer.weights)"
        )
    place = settings.hf_hub_id
    cached = try_to_load_from_cache(place, _FILE)
    if isinstance(cached, str):
        return Path(cached), settings.tag or "default"
    if not download:
        raise CheckpointError(
            f"the weights of {arch} are not on this machine: --download (transfer.download=true) "
            f"lets timm's hub fetch {place}, or give --weights FILE (transfer.weights)"
        )
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # the error says it all, once
    try:
        return Path(hf_hub_download(place, _FILE)), settings.tag or "default"
    except Exception as error:  # the hub's client raises errors of several libraries
        raise CheckpointError(
            f"cannot fetch {place}: {one_line(error, 120)}: check the network, or give "
            "--weights FILE (transfer.weights)"
        ) from error


def read(arch: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors in the fetched file, which has been checked, with their names of today.

    timm alone knows which names changed since the file was written.
    """
    overlay = {"file": str(path), "hf_hub_id": None, "custom_load": False}
    filled = timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=overlay)
    state: dict[str, Tensor] = filled.state_dict()
    return state


def preprocessing_of(arch: str, weights: str) -> Preprocessing:
    """Return timm's configuration for evaluation as a record."""
    settings = timm.get_pretrained_cfg(arch)
    if settings is None:
        raise ConfigError(
            f"timm does not say how images for {arch} are prepared: set data.preprocessing to "
            "config, and data.image_size, mean and std"
        )
    found = resolve_data_config({}, pretrained_cfg=settings.to_dict())
    channels, height, width = found["input_size"]
    if channels != 3 or height != width:
        raise ConfigError(f"timm's {arch} takes {found['input_size']}; allowed: 3 square channels")
    try:
        resize = _resize(height, found["crop_pct"], found["crop_mode"], found["interpolation"])
    except ValueError as error:
        raise ConfigError(
            f"the preprocessing of timm's {arch} is not one that is known here: "
            f"{one_line(error, 120)}: choose another network, or set data.preprocessing to config"
        ) from error
    return Preprocessing(
        input_shape=(3, height, height),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        resize=resize,
    )


def _resize(size: int, crop_share: float, mode: str, interpolation: str) -> Resize:
    if mode == "squash" and crop_share == 1:
        return Resize(stretch=True, interpolation=interpolation)  # type: ignore[arg-type]
    if mode != "center":
        raise ValueError(f"crop mode {mode!r} with {units.plain(crop_share)} of the image")
    shorter = math.floor(size / crop_share)
    return Resize(shorter_side=shorter, interpolation=interpolation)  # type: ignore[arg-type]


def imagenet_ids(count: int) -> tuple[str, ...]:
    """Return the WordNet ids of the ImageNet of `count` classes, in order; () for no such one."""
    subset = infer_imagenet_subset({"num_classes": count})
    return () if subset is None else tuple(ImageNetInfo(subset).label_names())


def classes_of(arch: str, module: nn.Module) -> tuple[str, ...]:
    """Return ImageNet's class names; numbers where timm does not know which classes they are."""
    count: int = module.num_classes  # type: ignore[assignment]
    subset = infer_imagenet_subset(module)
    if subset is None:
        return tuple(f"class {index}" for index in range(count))
    names = ImageNetInfo(subset)
    return tuple(names.index_to_description(index) for index in range(count))

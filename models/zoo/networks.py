"""Networks of torchvision and timm: found by name, with the weights that the user allows.

Nothing is fetched unless `download` says so. What is fetched goes into the library's own cache, and
a file from there is only used when it has the sha256 that its name states.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from foldbench.bench import units
from foldbench.bench.errors import CheckpointError, UnknownNameError, nearest
from foldbench.bench.records import Preprocessing
from foldbench.bench.store.files import file_sha256, is_weights_file
from foldbench.models.building.foreign_weights import fit_tensors, fit_weights, load_state

ZooLibrary = Literal["torchvision", "timm"]
SOURCES: tuple[ZooLibrary, ...] = get_args(ZooLibrary)


@dataclass(frozen=True)
class ZooNetwork:
    """One architecture of one library."""

    source: ZooLibrary
    arch: str

    @property
    def name(self) -> str:
        """Such as ``torchvision:resnet50``."""
        return f"{self.source}:{self.arch}"


@dataclass(frozen=True)
class Weights:
    """What a network was filled with."""

    title: str
    """For people: ``IMAGENET1K_V2``, a file's name, or ``random``."""
    sha256: str
    """Of all tensors and their names."""
    random: bool
    notes: tuple[str, ...] = ()
    """How they came to fit, a sentence each."""


def _library(source: ZooLibrary) -> Any:
    """Return this package's module for a library, which takes seconds to load and often is not."""
    return import_module(f"{__package__}.{source}")


def find_network(text: str) -> ZooNetwork:
    """Return the network called ``torchvision:NAME``, ``timm:NAME`` or NAME.

    NAME alone is torchvision's network where both libraries have one of that name. Raises
    UnknownNameError with the nearest spelling.
    """
    source, colon, arch = text.partition(":")
    if colon and source not in SOURCES:
        raise UnknownNameError(f"{text!r}: unknown source {source!r} (known: {', '.join(SOURCES)})")
    asked = [s for s in SOURCES if not colon or s == source]
    name = arch if colon else text
    for one in asked:
        if name in _library(one).names():
            return ZooNetwork(one, name)
    known = {n for one in asked for n in _library(one).names()}
    raise UnknownNameError(
        f"no network {name!r} in {' or '.join(asked)}{nearest(name, known)} "
        f"({units.count(len(known))} are known; write torchvision:NAME or timm:NAME)"
    )


def create(network: ZooNetwork, **args: Any) -> nn.Module:
    """Return the network with random weights, in train mode; `args` are the library's.

    Without num_classes it has the library's own classifier.
    """
    return _library(network.source).create(network.arch, **args)


def fill(module: nn.Module, network: ZooNetwork, weights: str, download: bool) -> Weights:
    """Load weights into `module`, which `create` made, and say which.

    `weights` is ``none`` (they stay random), ``default``, torchvision's name of weights such as
    ``IMAGENET1K_V1``, or the path of a file. Raises CheckpointError when they are not
    on this machine and may not be fetched, cannot be fetched, or belong to another network.
    """
    if weights == "none":
        return Weights("random", hash_state(module), random=True)
    if is_weights_file(weights):
        path, title = Path(weights).expanduser(), Path(weights).name
        fitted = fit_weights(module, path)
    else:
        library = _library(network.source)
        path, title = library.locate(network.arch, weights, download)
        _check_hash(path)
        fitted = fit_tensors(module, library.read(network.arch, path), path)
    load_state(module, fitted.state)
    return Weights(title, hash_state(module), random=False, notes=fitted.notes)


def preprocessing_of(network: ZooNetwork, weights: str) -> Preprocessing:
    """Return how the weights were evaluated, as the library's own metadata say.

    For a file, or without weights, these are the metadata of the default weights.
    """
    return _library(network.source).preprocessing_of(network.arch, weights)


def classes_of(network: ZooNetwork, module: nn.Module) -> tuple[str, ...]:
    """Return the names of the classes that the network's own classifier tells apart."""
    return _library(network.source).classes_of(network.arch, module)


def class_ids_of(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the WordNet ids of a library's classes, such as n01440764; () where none are known."""
    ids: tuple[str, ...] = _library("timm").imagenet_ids(len(classes))
    return ids


def hash_state(module: nn.Module) -> str:
    """Return the sha256 over name, shape, type and bytes of every parameter and buffer."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$|^([0-9a-f]{64})$")


def _check_hash(path: Path) -> None:
    """Raise CheckpointError unless a cached file has the sha256 that its name begins or is.

    torchvision names files like ``resnet50-11ad3fa6.pth``; the Hugging Face cache names the file
    behind its link by its whole sha256.
    """
    match = _HASH_IN_NAME.search(path.resolve().name)
    if match is None:
        raise CheckpointError(f"{path}: its name holds no sha256, so it cannot be checked")
    expected, found = match[1] or match[2], file_sha256(path)
    if not found.startswith(expected):
        raise CheckpointError(
            f"{path}: is damaged: its sha256 is {found[:12]}…, its name says {expected[:12]}…: "
            "delete it and fetch it again with --download"
        )

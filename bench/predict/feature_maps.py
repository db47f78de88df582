"""What the layers of a network make of one image: maps of activations (problem 2.2).

A layer's output is a set of maps when it has two dimensions of space: (1, C, H, W) in most
networks, (1, H, W, C) in Swin, and (1, T, C) in a vision transformer, whose last T tokens are a
square of patches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from foldbench.bench.backends import Floats
from foldbench.bench.errors import BenchError, UnknownNameError, nearest

PLACES = ("early", "middle", "late")
"""A quarter, half and three quarters of the way through the network."""

_MAX_EXTRA_TOKENS = 8
"""Class and register tokens before the patches of a vision transformer."""

_SEQUENCES = ("Sequential", "ModuleList")


@dataclass(frozen=True)
class LayerMaps:
    """The maps that one layer makes of an image."""

    layer: str
    place: str | None
    """Of PLACES, where the layer was chosen by it."""
    maps: Floats
    """(C, H, W) float32."""


def collect_maps(module: Any, x: Floats, layers: Sequence[str]) -> list[LayerMaps]:
    """Run `module` on one image `x` (1, 3, H, W) float32 and return the maps of `layers`.

    A layer is one of PLACES or the name of a module, such as ``layer1.2``. Raises UnknownNameError
    for a name that no module has, BenchError for a module that makes no maps.
    """
    found = record_maps(module, x)
    names = [name for name, _ in module.named_modules() if name]
    chosen = []
    for layer in layers:
        place = layer if layer in PLACES and layer not in names else None
        name = choose_layers(module, found)[PLACES.index(layer)] if place else layer
        if name not in names:
            raise UnknownNameError(
                f"no layer {name!r}{nearest(name, names)} (allowed: {', '.join(PLACES)}, or a "
                f"module's name such as {', '.join(list(found)[:: max(1, len(found) // 4)][:4])})"
            )
        if name not in found:
            raise BenchError(
                f"layer {name!r} makes no maps: its output has not two dimensions of space; "
                f"layers that have: {', '.join(list(found)[:: max(1, len(found) // 4)][:4])}, …"
            )
        if not np.isfinite(found[name]).all():
            raise BenchError(
                f"the maps of layer {name!r} are not all finite: the weights are damaged, get them "
                "anew"
            )
        chosen.append(LayerMaps(name, place, found[name]))
    return chosen


def choose_layers(module: Any, found: Mapping[str, Floats]) -> tuple[str, str, str]:
    """Return an early, a middle and a late layer out of those that made maps.

    A network that makes its maps smaller step by step has stages: of the last layers of its stages
    those at a quarter, half and three quarters, for ResNet-50 those of the homework. Otherwise they
    are taken from its repeated blocks, or from all its layers.
    """
    outside = _outside_of_blocks(module)
    stages = {maps.shape[-1]: name for name, maps in found.items() if name in outside}
    candidates = list(stages.values())
    if len(candidates) < len(PLACES):
        candidates = _blocks(module, found) or _leaves(module, found)
    if not candidates:
        raise BenchError("no layer of this network makes maps that could be drawn")
    early, middle, late = (
        candidates[ceil(len(candidates) * part / (len(PLACES) + 1)) - 1]
        for part in range(1, len(PLACES) + 1)
    )
    return early, middle, late


def _outside_of_blocks(module: Any) -> set[str]:
    """Return the names of all parts that lie in plain sequences alone, not inside a block.

    A block may work at the size of the stage before it and hand on a smaller one.
    """
    from torch.nn import ZeroPad2d

    names = set()
    waiting = [("", module)]
    while waiting:
        path, part = waiting.pop()
        for name, child in part.named_children():
            if isinstance(child, ZeroPad2d):
                continue  # a border around the maps of before makes no stage of its own
            names.add(f"{path}{name}")
            if type(child).__name__ in _SEQUENCES:
                waiting.append((f"{path}{name}.", child))
    return names


def _blocks(module: Any, found: Mapping[str, Floats]) -> list[str]:
    """Return the parts of the longest sequence of blocks that make maps, if there are three."""
    sequences = [
        [f"{name}.{child}" for child, _ in part.named_children() if f"{name}.{child}" in found]
        for name, part in module.named_modules()
        if type(part).__name__ in _SEQUENCES and name
    ]
    longest = max(sequences, key=len, default=[])
    return longest if len(longest) >= len(PLACES) else []


def _leaves(module: Any, found: Mapping[str, Floats]) -> list[str]:
    whole = {name for name, part in module.named_modules() if not list(part.children())}
    return [name for name in found if name in whole]


def record_maps(module: Any, x: Floats) -> dict[str, Floats]:
    """Return the maps of every layer that makes some, by name, in the order of the calls."""
    import torch

    found: dict[str, Floats] = {}

    def listen(name: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            maps = _as_maps(output.detach().numpy()) if isinstance(output, torch.Tensor) else None
            if maps is not None:
                found.pop(name, None)  # a layer called again counts where it was called last
                found[name] = maps.copy()

        return hook

    hooks = [part.register_forward_hook(listen(n)) for n, part in module.named_modules() if n]
    try:
        with torch.inference_mode():
            module(torch.tensor(x))  # a copy: some networks change their input
    finally:
        for one in hooks:
            one.remove()
    return found


def _as_maps(output: npt.NDArray[np.float32]) -> Floats | None:
    """Return one image's output as (C, H, W), None when it has no two dimensions of space."""
    if output.ndim not in (3, 4) or len(output) != 1:
        return None
    (one,) = output
    if one.ndim == 2:
        side = isqrt(len(one))
        if len(one) - side * side > _MAX_EXTRA_TOKENS:
            return None
        one = one[len(one) - side * side :].reshape(side, side, -1)
    if one.shape[1] == one.shape[2]:
        maps = one
    elif one.shape[0] == one.shape[1]:
        maps = one.transpose(2, 0, 1)
    else:
        return None
    return maps if maps.shape[-1] > 1 else None

"""Layers of torch, read as numbers and written anew."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from foldbench.exporters.folding.algebra import SAME, Doubles, FoldRefusedError, Linear
from foldbench.exporters.folding.copying import copy_network
from foldbench.exporters.folding.tracing import SAME_PADDED, kind_of

_RANKS: dict[type, int] = {
    nn.Conv1d: 3,
    nn.Conv2d: 4,
    nn.Conv3d: 5,
    nn.ConvTranspose1d: 3,
    nn.ConvTranspose2d: 4,
    nn.ConvTranspose3d: 5,
}
_CONVOLUTIONS: dict[int, type[_ConvNd]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def is_linear(module: nn.Module | None) -> bool:
    """Tell whether `module` is a layer whose weights take something in."""
    return type(module) is nn.Linear or rank_of(module) is not None


def rank_of(module: nn.Module | None) -> int | None:
    """Return how many dimensions a convolution's input has in which dimension 1 are channels."""
    if module is None:
        return None
    return 4 if kind_of(module) == SAME_PADDED else _RANKS.get(type(module))


def read_layer(layer: Any) -> Linear:
    """Return the numbers of `layer`, for which `is_linear` holds."""
    form = read_form(layer)
    bias = form.bias if layer.bias is None else to_doubles(layer.bias)
    return replace(form, weight=to_doubles(layer.weight), bias=bias)


def read_form(layer: Any) -> Linear:
    """Return all but the numbers of `layer`, with zeros in their place that take no memory."""
    weight = np.broadcast_to(np.zeros(()), tuple(layer.weight.shape))
    if type(layer) is nn.Linear:
        return Linear(weight, np.zeros(layer.out_features))
    borders = SAME if kind_of(layer) == SAME_PADDED else layer.padding_mode
    return Linear(
        weight,
        np.zeros(layer.out_channels),
        tuple(layer.stride),
        _padding(layer),
        tuple(layer.dilation),
        layer.groups,
        borders,
        isinstance(layer, _ConvTransposeNd),
    )


def _padding(layer: Any) -> tuple[tuple[int, int], ...]:
    if layer.padding == "valid":
        return ((0, 0),) * len(layer.kernel_size)
    if layer.padding == "same":  # torch puts the odd one behind
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((side, side) for side in layer.padding)


def write_layer(numbers: Linear, like: nn.Module) -> nn.Module:
    """Return a layer with `numbers`, in the dtype, on the device and in the layout of `like`.

    `require_writable` holds.
    """
    weight: Any = like.weight
    layer: Any = copy_network(like) if _has_form(numbers, like) else _new_layer(numbers, like)
    for name, values in (("weight", numbers.weight), ("bias", numbers.bias)):
        if name == "bias" and like.bias is None and not values.any():
            layer.bias = None
            continue
        stored = torch.from_numpy(np.array(values)).to(weight.device, weight.dtype)
        if name == "weight" and _is_channels_last(weight):
            stored = stored.to(memory_format=torch.channels_last)
        setattr(layer, name, nn.Parameter(stored, requires_grad=weight.requires_grad))
    return layer


def require_writable(numbers: Linear, like: nn.Module) -> None:
    """Raise FoldRefusedError where torch has no such layer, or a value is not finite in it."""
    weight: Any = like.weight
    if not _has_form(numbers, like):
        _new_layer(numbers, like)
    for name, values in (("weight", numbers.weight), ("bias", numbers.bias)):
        largest = np.abs(values).max(initial=0.0)
        if not largest <= torch.finfo(weight.dtype).max:  # nor is NaN
            raise FoldRefusedError(
                f"the folded {name} would have values that are not finite in {weight.dtype}"
            )


def _has_form(numbers: Linear, like: nn.Module) -> bool:
    old = read_form(like)
    return (old.geometry, old.weight.shape) == (numbers.geometry, numbers.weight.shape)


def _new_layer(numbers: Linear, like: nn.Module) -> nn.Module:
    """Return a layer of the form of `numbers`, of the kind of `like`, without weights."""
    outputs = len(numbers.bias)
    if not numbers.kernel:
        return nn.Linear(numbers.inputs, outputs, device="meta").eval()
    if (
        numbers.transposed
        or numbers.borders == SAME
        or any(before != after for before, after in numbers.padding)
    ):
        raise FoldRefusedError("torch has no layer with such borders")
    kind = _CONVOLUTIONS[len(numbers.kernel)]
    layer: Any = kind(
        numbers.inputs,
        outputs,
        numbers.kernel,
        numbers.stride,
        tuple(before for before, _ in numbers.padding),
        numbers.dilation,
        numbers.groups,
        padding_mode=numbers.borders,
        device="meta",
    )
    return layer.eval()


def to_doubles(tensor: torch.Tensor) -> Doubles:
    """Return the values as float64 on the CPU."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def _is_channels_last(weight: torch.Tensor) -> bool:
    if weight.ndim != 4 or weight.is_contiguous():
        return False
    return weight.is_contiguous(memory_format=torch.channels_last)

"""Numbers around images that are assigned to a padded tensor, as one number for each channel.

A Diverse Branch Block pads the output of a BatchNorm with what that makes of zeros, so that zeros
around the input of the 1x1 convolution before it come to the same (Ding et al. 2021, "Diverse
Branch Block", section 3.2).
"""

import operator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from foldbench.exporters.folding.algebra import Doubles
from foldbench.exporters.folding.layers import to_doubles
from foldbench.exporters.folding.network import Network
from foldbench.exporters.folding.reshaping import push

_PADS = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)


@dataclass(frozen=True, eq=False)
class Border:
    """What is put around a tensor."""

    source: fx.Node
    """The tensor."""
    padding: tuple[tuple[int, int], ...]
    """Before and after, by dimension behind the channels."""
    values: Doubles
    """(channels,)"""
    fills: tuple[fx.Node, ...]
    """The assignments."""


def fills_of(network: Network, node: fx.Node) -> tuple[fx.Node, ...]:
    """Return the assignments to what `node` has padded; none where it does not pad."""
    if node.target is not F.pad and type(network.module(node)) not in _PADS:
        return ()
    return tuple(
        user for user in node.users if user.target is operator.setitem and user.args[0] is node
    )


def read_border(network: Network, node: fx.Node) -> Border | None:
    """Return what `node` and assignments to it put around a tensor; None where they do not.

    They are run on a tensor of NaN: the border is what is a number then.
    """
    fills = fills_of(network, node)
    readers = [user for user in node.users if user not in fills]
    if not fills or len(readers) != 1 or any(readers[0] < fill for fill in fills):
        return None
    source = node.all_input_nodes[0]
    inside = network.shape(source)
    padded = torch.from_numpy(push(network, node, np.full(inside, np.nan)))
    for fill in fills:
        _, place, given = fill.args
        value = _constant(network, given)
        if value is None or len(fill.all_input_nodes) > 1 + isinstance(given, fx.Node):
            return None
        padded[place] = value  # type: ignore[index]
    return _describe(source, inside, padded.numpy(), fills)


def _constant(network: Network, given: object) -> torch.Tensor | float | None:
    if isinstance(given, int | float):
        return float(given)
    value = None if given in network.changing else network.flow.value(given)
    return torch.from_numpy(to_doubles(value)) if isinstance(value, torch.Tensor) else None


def _describe(
    source: fx.Node, inside: tuple[int, ...], padded: Doubles, fills: tuple[fx.Node, ...]
) -> Border | None:
    """Return the border of `padded`, which is NaN where the source of shape `inside` lies."""
    is_inside = np.isnan(padded)
    lines = [
        np.moveaxis(is_inside, axis, 0).reshape(size, -1).any(1)
        for axis, size in enumerate(padded.shape)
    ]
    begins = [int(line.argmax()) for line in lines]
    box = tuple(slice(begin, begin + size) for begin, size in zip(begins, inside, strict=True))
    whole = is_inside[box].all() and is_inside.sum() == np.prod(inside)
    if not whole or padded.shape[:2] != inside[:2] or is_inside.all():
        return None
    rows = np.moveaxis(padded, 1, 0).reshape(inside[1], -1)
    values = np.nanmax(rows, axis=1)
    if not (np.nanmin(rows, axis=1) == values).all():
        return None
    sides = zip(begins[2:], inside[2:], padded.shape[2:], strict=True)
    padding = tuple((begin, full - size - begin) for begin, size, full in sides)
    return Border(source, padding, values, fills)

"""Where numbers go when a tensor is reshaped, and back: found by reshaping an example."""

from typing import Any

import numpy as np
import torch
from torch import fx, nn

from foldbench.exporters.folding.algebra import Doubles, FoldRefusedError
from foldbench.exporters.folding.network import Network, is_dropout
from foldbench.exporters.folding.tracing import intervention, owner

_RESHAPES = (
    *("flatten", "view", "reshape", "squeeze", "unflatten", "unsqueeze", "contiguous"),
    *("permute", "transpose", "swapaxes", "movedim", "t", "reshape_as", "view_as"),
)
"""Functions and methods that hand on every number of their first argument once."""
DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


def hands_on(network: Network, node: fx.Node) -> bool:
    """Tell whether `node` hands on every number of its input once, in whatever order.

    Raises FoldRefusedError for Dropout in train mode.
    """
    module = network.module(node)
    if module is None:
        name = getattr(node.target, "__name__", node.target)
        dropped = is_dropout(node)
        off = dropped and node.kwargs.get("training") is False
        off = off or (node.op in ("call_function", "call_method") and name in _RESHAPES)
    elif intervention(module) is not None:
        return False
    else:
        dropped = type(module) in DROPOUTS
        off = dropped or type(module) in (nn.Identity, nn.Flatten, nn.Unflatten)
    if dropped and owner(node)[0] in network.flow.training:
        raise FoldRefusedError(
            f"{network.describe(node)} before it is in train mode; call .eval() on the network"
        )
    return off and len(network.shape(node)) > 0


def keeps_order(network: Network, node: fx.Node) -> bool:
    """Tell whether `node` gives just what it is given, in the same shape."""
    name = getattr(node.target, "__name__", node.target)
    kept = network.shape(node) == network.shape(node.all_input_nodes[0])
    return kept and name not in ("permute", "transpose", "swapaxes", "movedim", "t")


def push(network: Network, node: fx.Node, values: Doubles) -> Doubles:
    """Return `values`, in the shape of the input of `node`, as `node` hands them on."""
    return _call(network, node, torch.from_numpy(np.array(values))).numpy()


def pull(network: Network, node: fx.Node, values: Doubles) -> Doubles:
    """Return which values the input of `node` has where it gives `values`."""
    shape = network.shape(node.all_input_nodes[0])
    places = torch.arange(int(np.prod(shape))).reshape(shape)
    moved = _call(network, node, places).numpy()
    before = np.empty(moved.size)
    before[moved.reshape(-1)] = values.reshape(-1)
    return before.reshape(shape)


def along(values: Doubles, axis: int) -> Doubles | None:
    """Return the numbers along `axis`, if they are the same wherever else one looks."""
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    return rows[:, 0].copy() if (rows == rows[:, :1]).all() else None


def _call(network: Network, node: fx.Node, values: torch.Tensor) -> torch.Tensor:
    """Return what `node` makes of `values`; raises FoldRefusedError where that is not known."""
    source = node.all_input_nodes[0]

    def value_of(read: fx.Node) -> Any:
        if read is source:
            return values
        if read in network.flow.sizes:
            return network.flow.sizes[read]
        if network.shape(read):
            return torch.empty(network.shape(read), device="meta")
        raise FoldRefusedError(f"where {network.describe(node)} puts its numbers is not known")

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), value_of)
    module = network.module(node)
    if is_dropout(node) or (module is not None and isinstance(module, DROPOUTS)):
        return values
    if module is not None:
        made = module(values)
    elif node.op == "call_method":
        made = getattr(args[0], str(node.target))(*args[1:], **kwargs)
    else:
        made = node.target(*args, **kwargs)  # type: ignore[operator]
    if not isinstance(made, torch.Tensor) or tuple(made.shape) != network.shape(node):
        raise FoldRefusedError(f"where {network.describe(node)} puts its numbers is not known")
    return made

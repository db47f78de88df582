"""When a BatchNorm may become part of the layer before it, and what that layer is then."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from foldbench.bench import units
from foldbench.exporters.folding.copying import copy_network
from foldbench.exporters.folding.tracing import (
    FROZEN,
    SAME_PADDED,
    Flow,
    intervention,
    kind_of,
    owner,
)

_LAYER_RANKS: dict[type, int] = {
    nn.Linear: 2,
    nn.Conv1d: 3,
    nn.Conv2d: 4,
    nn.Conv3d: 5,
    nn.ConvTranspose1d: 3,
    nn.ConvTranspose2d: 4,
    nn.ConvTranspose3d: 5,
}
"""Layers that fold, and the rank of output in which their features are the BatchNorm's channels."""
_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
_FUNCTIONS: dict[object, tuple[str, ...]] = {
    F.batch_norm: ("input", "mean", "var", "weight", "bias", "training", "momentum", "eps"),
    torch.batch_norm: ("input", "weight", "bias", "mean", "var", "training", "momentum", "eps"),
}
_RENAMED = {"running_mean": "mean", "running_var": "var"}
_RESHAPES = ("flatten", "view", "reshape", "squeeze", "unflatten", "unsqueeze", "contiguous")
"""Functions and methods that keep the order of the numbers."""
_SHAPE_METHODS = ("size", "dim", "ndimension", "numel")
_SHAPE_ATTRIBUTES = ("shape", "ndim", "dtype", "device")


class FoldRefusedError(Exception):
    """A BatchNorm that stays; its text says why."""


@dataclass
class BatchNormParameters:
    """A BatchNorm call that normalises by running statistics.

    y = (x - mean) / sqrt(var + eps) * weight + bias, all tensors of shape (channels,).
    """

    source: fx.Node
    mean: torch.Tensor
    var: torch.Tensor
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    eps: float


def is_batchnorm(flow: Flow, node: fx.Node) -> bool:
    """Tell whether `node` calls a BatchNorm, as a module or as a function."""
    if node.op == "call_function":
        return node.target in _FUNCTIONS
    module = flow.module(node)
    return isinstance(module, _BatchNorm) or is_constant_norm(module)


def is_constant_norm(module: nn.Module | None) -> bool:
    """Tell whether `module` is no BatchNorm, but computes the same by running statistics.

    InstanceNorm does in eval mode where it keeps them, a frozen BatchNorm always.
    """
    if isinstance(module, _InstanceNorm):
        return module.track_running_stats and module.running_mean is not None
    return type(module).__name__ == FROZEN


def name_of(node: fx.Node) -> str:
    """Return the qualified name of the BatchNorm that `node` calls, or the call's own name."""
    statistics = (n for n in node.all_input_nodes if n.op == "get_attr")
    parents = (str(n.target).rpartition(".")[0] for n in statistics)
    return owner(node)[0] or next((parent for parent in parents if parent), node.name)


def read_batchnorm(flow: Flow, node: fx.Node) -> BatchNormParameters:
    """Return the numbers that the BatchNorm call `node` uses; raises RefusedError."""
    module = flow.module(node)
    if module is not None:
        if (reason := intervention(module)) is not None:
            raise FoldRefusedError(f"it {reason}; a folded BatchNorm is not called any more")
        known = type(module) in (*_BATCHNORMS, *_INSTANCE_NORMS) or _is_frozen(module)
        if not known:
            kind = type(module).__qualname__
            raise FoldRefusedError(f"it is a {kind}, which may compute more than a BatchNorm does")
    if owner(node)[0] in flow.training:
        raise FoldRefusedError(
            "it is in train mode, where it normalises by each batch; call .eval() on the network"
        )
    values = _arguments(flow, node, module)
    if values["mean"] is None or values["var"] is None or values["training"]:
        raise FoldRefusedError(
            "it normalises by each batch also in eval mode, not by running statistics"
        )
    tensors = {}
    for name in ("mean", "var", "weight", "bias"):
        tensors[name] = flow.value(values[name]) if module is None else values[name]
        if values[name] is not None and not isinstance(tensors[name], torch.Tensor):
            raise FoldRefusedError(f"its {name} is computed in every call")
    return BatchNormParameters(source=values["input"], eps=values["eps"], **tensors)


def find_layer(flow: Flow, source: fx.Node) -> tuple[fx.Node, nn.Module]:
    """Return the call that computes `source`, a BatchNorm's input, and the layer that it calls.

    Dropout, Identity and what flattens all but the channels are passed over. Raises RefusedError.
    """
    chain = [source]
    while _passes_through(flow, chain[-1]):
        chain.append(chain[-1].all_input_nodes[0])
    node = chain[-1]
    layer = flow.module(node)
    rank = None if layer is None else _rank_of(layer)
    if layer is None or rank is None:
        reason = intervention(layer) if layer is not None else None
        raise FoldRefusedError(
            f"it follows {describe(flow, node)}{f', which {reason}' if reason else ''}; only a "
            "Conv, ConvTranspose or Linear right before it can take it in"
        )
    if (reason := intervention(layer)) is not None:
        raise FoldRefusedError(f"{describe(flow, node)} {reason}; folding would change its weights")
    if type(layer.weight) is not nn.Parameter:
        raise FoldRefusedError(f"the weight of {describe(flow, node)} is no plain parameter")
    if len(flow.shapes[node]) != rank:
        raise FoldRefusedError(
            f"{describe(flow, node)} gives {len(flow.shapes[node])} dimensions here, not {rank}, "
            "so the BatchNorm's channels (dimension 1) are not the layer's features"
        )
    for link in chain:
        _require_single_use(flow, link)
    return node, layer


def _rank_of(layer: nn.Module) -> int | None:
    """Return the rank of output in which the features of a layer that folds are channels."""
    return 4 if kind_of(layer) == SAME_PADDED else _LAYER_RANKS.get(type(layer))


def fuse(layer: nn.Module, batchnorm: BatchNormParameters) -> nn.Module:
    """Return a copy of `layer` that computes `layer` and then `batchnorm`.

    With s = gamma / sqrt(var + eps): w' = w s over the output channels, b' = (b - mean) s + beta
    (Jacob et al. 2018, "Quantization and Training of Neural Networks", section 3.2). Computed in
    float64, stored in the dtype and on the device of the layer's weight. Raises RefusedError when
    a value is not finite.
    """
    mean, var = _float64(batchnorm.mean), _float64(batchnorm.var)
    gamma = torch.ones_like(var) if batchnorm.weight is None else _float64(batchnorm.weight)
    beta = torch.zeros_like(var) if batchnorm.bias is None else _float64(batchnorm.bias)
    old_bias = torch.zeros_like(mean) if layer.bias is None else _float64(layer.bias)
    scale = gamma / torch.sqrt(var + batchnorm.eps)
    weight = _float64(layer.weight) * _over_weight(scale, layer)
    fused = copy_network(layer)
    for name, value in (("weight", weight), ("bias", (old_bias - mean) * scale + beta)):
        stored = value.to(layer.weight.dtype)
        if not torch.isfinite(stored).all():
            raise FoldRefusedError(
                f"the folded {name} would have values that are not finite in {stored.dtype}: the "
                f"smallest running variance is {units.plain(float(var.min()))}, eps is "
                f"{units.plain(batchnorm.eps)}"
            )
        stored = stored.to(layer.weight.device)
        setattr(fused, name, nn.Parameter(stored, requires_grad=layer.weight.requires_grad))
    return fused


def describe(flow: Flow, node: fx.Node) -> str:
    """Return what `node` is, for a reader who knows the network's code and not its graph."""
    module = flow.module(node)
    if module is not None:
        return f"{type(module).__name__} '{node.target}'"
    if node.op == "placeholder":
        return "the network's input"
    if node.op == "output":
        return "the network's output"
    if node.op == "get_attr":
        return f"the tensor '{node.target}'"
    path, kind = owner(node)
    place = f" in {kind.__name__} '{path}'" if kind is not None else ""
    return f"{getattr(node.target, '__name__', node.target)}(){place}"


def _arguments(flow: Flow, node: fx.Node, module: nn.Module | None) -> dict[str, Any]:
    """Return input, mean, var, weight, bias, training and eps of a BatchNorm call."""
    if module is None:
        values = {"weight": None, "bias": None, "training": False, "eps": 1e-5}
        values |= zip(_FUNCTIONS[node.target], node.args, strict=False)
        return values | {_RENAMED.get(name, name): value for name, value in node.kwargs.items()}
    return {
        "input": node.all_input_nodes[0],
        "mean": module.running_mean,
        "var": module.running_var,
        "weight": module.weight,
        "bias": module.bias,
        "training": False,
        "eps": module.eps,
    }


def _is_frozen(module: nn.Module) -> bool:
    """Tell whether `module` has what torchvision's frozen BatchNorm computes with, and no more."""
    buffers = {name for name, _ in module.named_buffers()}
    expected = {"weight", "bias", "running_mean", "running_var"}
    own = buffers - {"num_batches_tracked"} == expected and not [*module.parameters()]
    return type(module).__name__ == FROZEN and own and isinstance(getattr(module, "eps", 0), float)


def _require_single_use(flow: Flow, node: fx.Node) -> None:
    """Raise RefusedError unless one call alone uses the values (not just the shape) of `node`."""
    users = [user for user in node.users if not _reads_shape(user)]
    if len(users) > 1:
        names = ", ".join(dict.fromkeys(describe(flow, user) for user in users))
        raise FoldRefusedError(
            f"the output of {describe(flow, node)} is used {len(users)} times ({names}), and "
            "folding would change it for all of them"
        )


def _reads_shape(node: fx.Node) -> bool:
    """Tell whether `node` reads only what folding does not change of its input."""
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    return node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES


def _passes_through(flow: Flow, node: fx.Node) -> bool:
    """Tell whether `node` hands on its input; raises RefusedError for Dropout in train mode."""
    module = flow.module(node)
    if module is None:
        is_dropout = node.target in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
        off = is_dropout and node.kwargs.get("training") is False
        off = off or _keeps_channels(flow, node)
    elif intervention(module) is not None:
        return False
    else:
        is_dropout = type(module) in _DROPOUTS
        off = is_dropout or type(module) is nn.Identity
        if type(module) in (nn.Flatten, nn.Unflatten):
            off = _same_channels(flow, node)
    if is_dropout and owner(node)[0] in flow.training:
        raise FoldRefusedError(
            f"{describe(flow, node)} before it is in train mode; call .eval() on the network"
        )
    return off


def _keeps_channels(flow: Flow, node: fx.Node) -> bool:
    """Tell whether `node` is a function or method that reshapes what comes after the channels."""
    name = getattr(node.target, "__name__", node.target)
    reshapes = node.op in ("call_function", "call_method") and name in _RESHAPES
    return reshapes and _same_channels(flow, node)


def _same_channels(flow: Flow, node: fx.Node) -> bool:
    """Tell whether dimensions 0 and 1 of what `node` reshapes stay as they are."""
    if node not in flow.shapes or node.all_input_nodes[0] not in flow.shapes:
        return False
    before, after = flow.shapes[node.all_input_nodes[0]], flow.shapes[node]
    return len(before) > 1 and before[:2] == after[:2]


def _over_weight(scale: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """Return `scale`, one number per output channel, in a shape that multiplies the weight.

    Weights are (out, in/groups, ...), for transposed convolutions (in, out/groups, ...), where
    the first in/groups rows belong to the first group.
    """
    rest = [1] * (layer.weight.ndim - 2)
    if not isinstance(layer, _ConvTransposeNd):
        return scale.reshape(-1, 1, *rest)
    rows = layer.in_channels // layer.groups
    return (
        scale.reshape(layer.groups, -1)
        .repeat_interleave(rows, 0)
        .reshape(layer.in_channels, -1, *rest)
    )


def _float64(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values on the CPU, as not every accelerator has float64."""
    return tensor.detach().to("cpu", torch.float64)

"""Calls that multiply by and add constants, channel by channel: BatchNorm and the like."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from foldbench.bench import units
from foldbench.exporters.folding.algebra import Doubles, FoldRefusedError
from foldbench.exporters.folding.layers import to_doubles
from foldbench.exporters.folding.network import Network
from foldbench.exporters.folding.tracing import FROZEN, Flow, intervention, owner

_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_FUNCTIONS: dict[object, tuple[str, ...]] = {
    F.batch_norm: ("input", "mean", "var", "weight", "bias", "training", "momentum", "eps"),
    torch.batch_norm: ("input", "weight", "bias", "mean", "var", "training", "momentum", "eps"),
}
_RENAMED = {"running_mean": "mean", "running_var": "var"}
_ARITHMETIC: dict[object, str] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), "add"),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), "sub"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), "mul"),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), "div"),
    **dict.fromkeys((torch.true_divide, "true_divide"), "div"),
    **dict.fromkeys(("multiply", torch.multiply), "mul"),
}


@dataclass(frozen=True, eq=False)
class Scaling:
    """A call that computes y = x * scale + shift."""

    source: fx.Node
    """x"""
    scale: Doubles
    """(channels,), or (1,) where `axis` is None; as `shift`."""
    shift: Doubles
    axis: int | None
    """Which dimension of x the channels are; None where all numbers are treated alike."""
    batchnorm: str | None = None
    """Its name, where it is one."""
    numbers: str = ""
    """What a reader should know where the result is not finite."""

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return bool((self.scale == 1).all() and not self.shift.any())

    def spread(self, channels: int) -> "Scaling":
        """Return the same with a number for each of `channels`."""
        sides = (np.broadcast_to(one, (channels,)) for one in (self.scale, self.shift))
        scale, shift = sides
        return replace(self, scale=scale, shift=shift)


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


def read_scaling(network: Network, node: fx.Node) -> Scaling | None:
    """Return what `node` multiplies by and adds; None where it does no such thing.

    Raises FoldRefusedError for a BatchNorm whose numbers are not fixed.
    """
    if is_batchnorm(network.flow, node):
        return _read_batchnorm(network.flow, node)
    return _read_arithmetic(network, node)


def _read_batchnorm(flow: Flow, node: fx.Node) -> Scaling:
    """Return y = (x - mean) / sqrt(var + eps) * weight + bias."""
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
    values = _arguments(node, module)
    if values["mean"] is None or values["var"] is None or values["training"]:
        raise FoldRefusedError(
            "it normalises by each batch also in eval mode, not by running statistics"
        )
    tensors: dict[str, Doubles | None] = {}
    for name in ("mean", "var", "weight", "bias"):
        given = flow.value(values[name]) if module is None else values[name]
        if values[name] is not None and not isinstance(given, torch.Tensor):
            raise FoldRefusedError(f"its {name} is computed in every call")
        tensors[name] = None if given is None else to_doubles(given)
    mean, var = tensors["mean"], tensors["var"]
    assert mean is not None
    assert var is not None
    with np.errstate(all="ignore"):
        scale = np.ones_like(var) if tensors["weight"] is None else tensors["weight"]
        scale = scale / np.sqrt(var + values["eps"])
        bias = np.zeros_like(var) if tensors["bias"] is None else tensors["bias"]
        shift = bias - mean * scale
    numbers = (
        f": the smallest running variance is {units.plain(float(var.min()))}, eps is "
        f"{units.plain(values['eps'])}"
    )
    return Scaling(values["input"], scale, shift, 1, name_of(node), numbers)


def _arguments(node: fx.Node, module: Any) -> dict[str, Any]:
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


def _read_arithmetic(network: Network, node: fx.Node) -> Scaling | None:
    """Return a sum, difference, product or quotient of a tensor and a constant as a scaling."""
    called = _ARITHMETIC.get(node.target) if node.op in ("call_function", "call_method") else None
    if called is None or len(node.args) != 2 or node.kwargs or node not in network.flow.shapes:
        return None
    for index, (given, other) in enumerate((node.args, node.args[::-1])):
        if not isinstance(given, fx.Node) or given.op == "get_attr":
            continue
        if (constant := _constant(network, given, other)) is None:
            continue
        values, axis = constant
        same = network.shape(given) == network.shape(node)
        flow = network.flow
        if (
            same
            and flow.dtypes.get(given) == flow.dtypes[node]
            and flow.dtypes[node].is_floating_point
        ):
            return _calculate(called, given, values, axis, reverse=bool(index))
    return None


def _calculate(
    called: str, source: fx.Node, values: Doubles, axis: int | None, reverse: bool
) -> Scaling | None:
    ones, zeros = np.ones_like(values), np.zeros_like(values)
    results: dict[tuple[str, bool], Callable[[], tuple[Doubles, Doubles]]] = {
        ("add", False): lambda: (ones, values),
        ("add", True): lambda: (ones, values),
        ("sub", False): lambda: (ones, -values),
        ("sub", True): lambda: (-ones, values),
        ("mul", False): lambda: (values, zeros),
        ("mul", True): lambda: (values, zeros),
        ("div", False): lambda: (1 / values, zeros),
    }
    if (called, reverse) not in results:
        return None
    with np.errstate(all="ignore"):
        scale, shift = results[called, reverse]()
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    return Scaling(source, scale, shift, axis)


def _constant(network: Network, x: fx.Node, other: object) -> tuple[Doubles, int | None] | None:
    """Return the numbers of a constant and the dimension of `x` along which they vary."""
    if isinstance(other, bool):
        return None
    if isinstance(other, int | float):
        return np.full(1, float(other)), None
    if isinstance(other, fx.Node) and other in network.changing:
        return None
    value = network.flow.value(other)
    if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
        return None
    rank = len(network.shape(x))
    if value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + tuple(value.shape)
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    if len(axes) > 1 or axes == [0]:
        return None
    return to_doubles(value).reshape(-1), axes[0] if axes else None

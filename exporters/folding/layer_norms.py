"""Weight and bias of a LayerNorm, into the linear layers that read it.

W (n w + b) + c = (W w) n + (W b + c), where n is what is normalised: a scale and a shift of it.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from foldbench.exporters.folding.algebra import FoldRefusedError
from foldbench.exporters.folding.findings import Findings
from foldbench.exporters.folding.layers import to_doubles
from foldbench.exporters.folding.network import Network
from foldbench.exporters.folding.scales import into_layers_after
from foldbench.exporters.folding.scaling import Scaling
from foldbench.exporters.folding.tracing import intervention

_ARGUMENTS = ("input", "normalized_shape", "weight", "bias", "eps")


def fold_layer_norms(network: Network, findings: Findings) -> None:
    """Fold weight and bias of every LayerNorm that layers alone read, where that saves something.

    A layer without a bias would need one for the LayerNorm's: then both stay.
    """
    for node in network.nodes:
        affine = _read_affine(network, node)
        if affine is None:
            continue
        try:
            layers = into_layers_after(network, node, affine, with_bias=bool(affine.shift.any()))
        except FoldRefusedError:
            continue
        what = network.describe(node)
        for layer in layers:
            findings.took(layer, f"weight and bias of {what}", None, "scale")
        _take_out(network, node)


def _read_affine(network: Network, node: fx.Node) -> Scaling | None:
    """Return what a LayerNorm of the last dimension multiplies by and adds at its end."""
    given = _arguments(network, node)
    if given is None or len(given["normalized_shape"]) != 1:
        return None
    weight, bias = given["weight"], given["bias"]
    if weight is None and bias is None:
        return None
    (features,) = given["normalized_shape"]
    scale = np.ones(features) if weight is None else to_doubles(weight)
    shift = np.zeros(features) if bias is None else to_doubles(bias)
    return Scaling(node, scale, shift, len(network.shape(node)) - 1)


def _arguments(network: Network, node: fx.Node) -> dict[str, Any] | None:
    """Return what a call of layer_norm is given, tensors as such; None where it is none."""
    module = network.module(node)
    if type(module) is nn.LayerNorm and intervention(module) is None:
        return {name: getattr(module, name) for name in _ARGUMENTS[1:]}
    if node.target is not F.layer_norm or node.op != "call_function":
        return None
    given = {"weight": None, "bias": None, **dict(zip(_ARGUMENTS, node.args, strict=False))}
    given |= node.kwargs
    for name in ("weight", "bias"):
        read = given[name]
        if read is not None:
            given[name] = network.flow.value(read)
            if read in network.changing or not isinstance(given[name], torch.Tensor):
                return None
    return given


def _take_out(network: Network, node: fx.Node) -> None:
    """Let `node` normalise alone."""
    module = network.module(node)
    if isinstance(module, nn.LayerNorm):
        plain = nn.LayerNorm(module.normalized_shape, module.eps, elementwise_affine=False)
        network.replace_module(node, plain.eval())
        return
    tensors = [read for read in node.all_input_nodes if read.op == "get_attr"]
    given = dict(zip(_ARGUMENTS, node.args, strict=False)) | node.kwargs
    node.args = (given.pop("input"), given.pop("normalized_shape"))
    node.kwargs = {**given, "weight": None, "bias": None}
    for read in tensors:
        if not read.users:
            network.erase(read)

"""Scales and shifts, BatchNorm above all, into the weights before them, or else into those after.

y = (W x + b) s + t is a layer again, and so is y = W (x s + t) + b where no zeros are put around
what was shifted.
"""

import numpy as np
from torch import fx

from foldbench.exporters.folding.algebra import (
    Doubles,
    FoldRefusedError,
    Linear,
    scale_inputs,
    scale_outputs,
)
from foldbench.exporters.folding.findings import Findings
from foldbench.exporters.folding.network import Network
from foldbench.exporters.folding.reshaping import along, hands_on, keeps_order, pull, push
from foldbench.exporters.folding.scaling import Scaling, name_of, read_scaling
from foldbench.exporters.folding.tracing import intervention


class _NoNeighbourError(FoldRefusedError):
    """There is no layer that could take it in."""


def fold_scales(network: Network, findings: Findings) -> None:
    """Fold every scale and shift in `network` that a neighbouring layer can take in."""
    for node in network.nodes:
        try:
            scaling = read_scaling(network, node)
        except FoldRefusedError as refusal:
            findings.left(name_of(node), str(refusal))
            continue
        if scaling is not None:
            _fold_scaling(network, node, scaling, findings)


def _fold_scaling(network: Network, node: fx.Node, scaling: Scaling, findings: Findings) -> None:
    if scaling.is_identity and _drop(network, node, scaling.source):
        return
    what = network.describe(node)
    reasons = []
    for fold in (_into_layer_before, into_layers_after):
        try:
            layers = fold(network, node, scaling)
        except FoldRefusedError as refusal:
            reasons.append(refusal)
            continue
        for layer in layers:
            findings.took(layer, what, None if layer != layers[0] else scaling.batchnorm, "scale")
        network.bypass(node, scaling.source)
        return
    found = next((r for r in reversed(reasons) if not isinstance(r, _NoNeighbourError)), reasons[0])
    if scaling.batchnorm is not None:
        findings.left(scaling.batchnorm, str(found))
    elif not isinstance(found, _NoNeighbourError):
        findings.left(what, str(found), "scale")


def _drop(network: Network, node: fx.Node, source: fx.Node) -> bool:
    """Remove `node`, which changes no number, unless somebody could tell by its memory."""
    if len(source.users) > 1 and {source, node} & network.find_unsteady():
        return False
    network.bypass(node, source)
    return True


def _into_layer_before(network: Network, node: fx.Node, scaling: Scaling) -> list[str]:
    """Let the layer that computes the input of `node` do its work, too; return its name."""
    links = [scaling.source]
    while hands_on(network, links[-1]):
        links.append(links[-1].all_input_nodes[0])
    end = links[-1]
    if not network.is_layer(end):
        raise _NoNeighbourError(
            f"it follows {network.describe(end)}{_why_no_layer(network, end)}; only a Conv, "
            "ConvTranspose or Linear right before it can take it in"
        )
    layer = network.layer(end)
    scale, shift = _back_to_layer(network, links, scaling, len(layer.bias))
    for link in links:
        network.require_single_use(link)
    _put(network, end, scale_outputs(layer, scale, shift), scaling)
    return [str(end.target)]


def _why_no_layer(network: Network, node: fx.Node) -> str:
    module = network.module(node)
    reason = intervention(module) if module is not None else None
    return f", which {reason}" if reason else ""


def _back_to_layer(
    network: Network, links: list[fx.Node], scaling: Scaling, channels: int
) -> tuple[Doubles, Doubles]:
    """Return scale and shift for each of the `channels` of the layer at the end of `links`."""
    *passed, end = links
    if scaling.axis is None:
        spread = scaling.spread(channels)
        return spread.scale, spread.shift
    axis = network.axis(end)
    passed = [link for link in passed if not keeps_order(network, link)]
    if not passed:
        if scaling.axis != axis:
            rank = len(network.shape(end))
            raise FoldRefusedError(
                f"{network.describe(end)} gives {rank} dimensions here, so the channels "
                f"(dimension {scaling.axis}) are not the layer's features (dimension {axis})"
            )
        return scaling.scale, scaling.shift
    found = []
    for values in (scaling.scale, scaling.shift):
        full = _full(values, scaling.axis, network.shape(links[0]))
        for link in passed:
            full = pull(network, link, full)
        found.append(along(full, axis))
    scale, shift = found
    if scale is None or shift is None:
        raise FoldRefusedError(
            f"it follows {network.describe(passed[0])}, after which its channels are not those of "
            f"{network.describe(end)}"
        )
    return scale, shift


def _full(values: Doubles, axis: int, shape: tuple[int, ...]) -> Doubles:
    """Return `values` along `axis`, the same everywhere else, in `shape`."""
    return np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - axis - 1)), shape)


def into_layers_after(
    network: Network, node: fx.Node, scaling: Scaling, with_bias: bool = False
) -> list[str]:
    """Let all layers that read `node` do the work of `scaling`, too; return their names.

    `with_bias` says that they must have one already. Raises FoldRefusedError where one cannot.
    """
    readers = network.readers(node)
    if not readers or len(readers) != len(node.users):
        raise _NoNeighbourError("no layer reads it")
    made = [_scale_reader(network, node, reader, scaling) for reader in readers]
    if scaling.source in network.find_unsteady():
        raise FoldRefusedError("its input is changed in place later")
    if with_bias and not all(network.has_bias(layer) for layer, _ in made):
        raise FoldRefusedError("a layer that reads it has no bias")
    for layer, numbers in made:
        _put(network, layer, numbers, scaling)
    return [str(layer.target) for layer, _ in made]


def _scale_reader(
    network: Network, node: fx.Node, reader: fx.Node, scaling: Scaling
) -> tuple[fx.Node, Linear]:
    """Return the layer that `reader` is or leads to, and what it is with `scaling` before it."""
    links = []
    while not network.is_layer(reader):
        if not hands_on(network, reader) or len(reader.users) != 1:
            raise _NoNeighbourError(f"{network.describe(reader)} reads it")
        links.append(reader)
        (reader,) = reader.users
    layer = network.layer(reader)
    source = reader.all_input_nodes[0]
    axis = network.axis(reader) - len(network.shape(reader)) + len(network.shape(source))
    if scaling.axis is None:
        spread = scaling.spread(layer.inputs)
        scale, shift = spread.scale, spread.shift
    else:
        scale, shift = _forth_to_layer(network, node, scaling, [*links, reader], axis)
    try:
        return reader, scale_inputs(layer, scale, shift)
    except FoldRefusedError as refusal:
        raise FoldRefusedError(f"before {network.describe(reader)}: {refusal}") from refusal


def _forth_to_layer(
    network: Network, node: fx.Node, scaling: Scaling, links: list[fx.Node], axis: int
) -> tuple[Doubles, Doubles]:
    """Return scale and shift for each input of the layer at the end of `links`."""
    *passed, end = links
    assert scaling.axis is not None
    found = []
    for values in (scaling.scale, scaling.shift):
        full = _full(values, scaling.axis, network.shape(node))
        for link in passed:
            full = push(network, link, full)
        found.append(along(full, axis))
    scale, shift = found
    if scale is None or shift is None:
        raise FoldRefusedError(f"its channels are not the ones that {network.describe(end)} takes")
    return scale, shift


def _put(network: Network, node: fx.Node, numbers: Linear, scaling: Scaling) -> None:
    try:
        network.put(node, numbers)
    except FoldRefusedError as refusal:
        raise FoldRefusedError(f"{refusal}{scaling.numbers}") from refusal

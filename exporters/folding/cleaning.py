"""Calls that change nothing, and those that nobody reads."""

import operator
from typing import Any

import torch
from torch import fx, nn

from foldbench.exporters.folding.findings import Findings
from foldbench.exporters.folding.network import Network
from foldbench.exporters.folding.reshaping import DROPOUTS
from foldbench.exporters.folding.tracing import intervention, owner

_RANK_METHODS = ("dim", "ndimension")
_COMPARISONS = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)
_WITH_EFFECTS = ("setitem", "_assert", "_assert_scalar", "setattr", "print")


def clean(network: Network) -> None:
    """Take out checks of how many dimensions there are, Identity, and Dropout in eval mode."""
    _compute_ranks(network)
    for node in network.nodes:
        module = network.module(node)
        if module is None or intervention(module) is not None:
            continue
        idle = type(module) is nn.Identity
        idle = idle or (type(module) in DROPOUTS and owner(node)[0] not in network.flow.training)
        if idle and len(node.args) == 1 and node.all_input_nodes:
            network.bypass(node, node.all_input_nodes[0])


def _compute_ranks(network: Network) -> None:
    """Write the number of dimensions where it is read; take out what asserts something of it."""
    known: dict[fx.Node, Any] = {}
    for node in network.nodes:
        if not any(read in known for read in node.all_input_nodes) and not _reads_rank(node):
            continue
        node.args = fx.node.map_arg(node.args, lambda read: known.get(read, read))
        node.kwargs = fx.node.map_arg(node.kwargs, lambda read: known.get(read, read))
        if _reads_rank(node) and node in network.flow.sizes:
            known[node] = network.flow.sizes[node]
        elif node.target in _COMPARISONS and not node.all_input_nodes:
            known[node] = node.target(*node.args)
        elif node.target is torch._assert and node.args[0] is True:
            network.erase(node)
    for node in reversed([*known]):
        if not node.users:
            network.erase(node)


def _reads_rank(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _RANK_METHODS
    return node.target is getattr and node.args[1] == "ndim"


def remove_unused(network: Network, findings: Findings) -> None:
    """Remove calls without effects whose output nobody reads; note the layers among them."""
    for node in reversed(network.nodes):
        if node.users or not _is_free_of_effects(network, node):
            continue
        if network.is_layer(node):
            findings.took("", str(node.target), None, "unused")
        network.flow.graph.erase_node(node)


def _is_free_of_effects(network: Network, node: fx.Node) -> bool:
    if node.op == "get_attr":
        return True
    if node.op not in ("call_module", "call_function", "call_method"):
        return False
    if network.changes_input(node):
        return False
    module = network.module(node)
    if module is not None:
        known = type(module).__module__.startswith("torch.nn.modules")
        return known and not any(intervention(part) for part in module.modules())
    if node.op == "call_method":
        return True
    home = getattr(node.target, "__module__", None) or "torch"
    name = str(getattr(node.target, "__name__", ""))
    return (
        home.partition(".")[0] in ("torch", "_operator", "builtins") and name not in _WITH_EFFECTS
    )

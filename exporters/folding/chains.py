"""Layers right after one another, where one layer with their product takes fewer operations."""

from torch import fx

from foldbench.exporters.folding.algebra import FoldRefusedError, compose
from foldbench.exporters.folding.findings import Findings
from foldbench.exporters.folding.network import Network, same_dtype


def fold_chains(network: Network, findings: Findings) -> None:
    """Join each layer with the one before it where that saves multiplications."""
    for node in network.nodes:
        if network.is_layer(node):
            before = node.all_input_nodes[0]
            if network.is_layer(before) and len(before.users) == 1:
                _join(network, before, node, findings)


def _join(network: Network, before: fx.Node, node: fx.Node, findings: Findings) -> None:
    first, second = network.module(before), network.module(node)
    if (
        first is None
        or second is None
        or not same_dtype(first, second)
        or len(before.args) != 1
        or len(node.args) != 1
    ):
        return
    name = str(before.target)
    try:
        forms = network.form(before), network.form(node)
        alike = len(forms[0].kernel) == len(forms[1].kernel)
        if not alike or not any(form.is_pointwise for form in forms):
            return
        layers = network.layer(before), network.layer(node)
        joined = compose(*layers)
        spared = sum(map(network.count_macs, (before, node), layers))
        if network.count_macs(node, joined) >= spared:
            return
        if before.all_input_nodes[0] in network.find_unsteady():
            raise FoldRefusedError("the input of the first is changed in place later")
        network.put(node, joined)
    except FoldRefusedError as refusal:
        findings.left(name, f"it stays before {network.describe(node)}: {refusal}", "chain")
        return
    findings.took(str(node.target), name, None, "chain")
    node.args = before.args
    network.erase(before)

"""Fold what is linear in a network into its layers, along its data flow.

Names and the order of definition play no part: the graph of calls says what reads what. Each kind
of rule is a module (`scales`, `layer_norms`, `branches`, `chains`, `constants`); they are applied
until nothing changes. What is refused computes what it did before, and the report says why.
"""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from foldbench.bench.records import Cost, FoldReport, Skip
from foldbench.exporters.folding.branches import fold_branches
from foldbench.exporters.folding.chains import fold_chains
from foldbench.exporters.folding.cleaning import clean, remove_unused
from foldbench.exporters.folding.findings import Findings
from foldbench.exporters.folding.layer_norms import fold_layer_norms
from foldbench.exporters.folding.network import Network
from foldbench.exporters.folding.scales import fold_scales
from foldbench.exporters.folding.scaling import is_batchnorm, is_constant_norm, name_of
from foldbench.exporters.folding.tracing import (
    Flow,
    UntraceableError,
    eval_copy,
    intervention,
    trace,
)


def fold_linear(
    module: nn.Module, example: torch.Tensor, batchnorm_alone: bool = False
) -> tuple[nn.Module, FoldReport]:
    """Return a copy of `module` in eval mode with everything linear folded, and what was done.

    `example` is one input batch, in the dtype and on the device of the network, of any size, with
    the number of dimensions that the network will be used with. `module` is not changed. The
    result is a GraphModule with fused weights, or a plain copy when nothing could be folded.
    `batchnorm_alone` leaves all but scales and shifts as they are.
    Raises ExportError when the network has no weights yet or does not run on `example`.
    """
    try:
        flow = trace(module, example)
    except UntraceableError as error:
        left = _count_modules(module)
        skip = Skip(module="", reason=str(error))
        report = FoldReport(
            batchnorms_before=left, batchnorms_after=left, folded=(), skipped=(skip,)
        )
        return eval_copy(module), report
    network = Network(flow)
    before, cost = _count_calls(flow), _cost(network, module)
    norms = {name_of(n) for n in network.nodes if is_constant_norm(flow.module(n))}
    findings = _fold_all(network, batchnorm_alone)
    before += sum(fold.batchnorm in norms for fold in findings.folded)
    after = before - len(findings.folded)
    report = FoldReport(
        batchnorms_before=before,
        batchnorms_after=after,
        folded=tuple(findings.folded),
        skipped=tuple(findings.skipped),
        others=tuple(findings.others),
        cost_before=cost,
        cost_after=cost,
    )
    if not findings.count:
        return eval_copy(module), report
    flops = _count_flops(network)
    folded = network.assemble(type(module).__name__)
    cost = Cost(flops_per_image=flops, parameters=_count_parameters(folded))
    return folded, report.model_copy(update={"cost_after": cost})


def count_batchnorms(module: nn.Module, example: torch.Tensor) -> int:
    """Return the number of BatchNorm calls when `module` runs on `example`, one input batch.

    What computes the same by another name counts where it was folded alone. It is the number of
    BatchNorm modules when the network cannot be traced. Raises ExportError when the network does
    not run on `example`.
    """
    try:
        return _count_calls(trace(module, example))
    except UntraceableError:
        return _count_modules(module)


def _fold_all(network: Network, batchnorm_alone: bool) -> Findings:
    """Apply all rules to `network` until none changes anything."""
    findings = Findings()
    for layer in network.flow.constants:
        findings.took(layer, "its weights, as they were computed", None, "constant")
    clean(network)
    every = (fold_scales, fold_layer_norms, fold_branches, fold_chains)
    rules = every[:1] if batchnorm_alone else every
    done = -1
    while done != findings.count:
        done = findings.count
        findings.skipped = _hidden_batchnorms(network.flow)
        for rule in rules:
            rule(network, findings)
    remove_unused(network, findings)
    return findings


def _hidden_batchnorms(flow: Flow) -> list[Skip]:
    """Return a Skip for each BatchNorm inside a module that the graph calls as a whole."""
    found = []
    for node in flow.graph.nodes:
        whole = flow.module(node)
        if whole is None or is_batchnorm(flow, node):
            continue
        reason = f"it is inside {type(whole).__name__} '{node.target}', which is left whole: it "
        reason += intervention(whole) or "is a module of torch with inner workings of its own"
        found += [
            Skip(module=f"{node.target}.{name}", reason=reason)
            for name, part in whole.named_modules()
            if isinstance(part, _BatchNorm)
        ]
    return found


def _count_calls(flow: Flow) -> int:
    return len(_hidden_batchnorms(flow)) + sum(
        is_batchnorm(flow, node) and not is_constant_norm(flow.module(node))
        for node in flow.graph.nodes
    )


def _count_modules(module: nn.Module) -> int:
    return sum(isinstance(part, _BatchNorm) for part in module.modules())


def _cost(network: Network, module: nn.Module) -> Cost:
    return Cost(flops_per_image=_count_flops(network), parameters=_count_parameters(module))


def _count_flops(network: Network) -> int:
    """Return what the layers of `network` compute for one image."""
    layers = [node for node in network.nodes if network.is_layer(node)]
    batch = next(network.shape(n)[0] for n in network.nodes if n.op == "placeholder")
    return 2 * sum(network.count_macs(node) for node in layers) // batch


def _count_parameters(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())

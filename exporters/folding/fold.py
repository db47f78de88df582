"""Fold BatchNorm into the layer before it, along the data flow of a network.

Names and the order of definition play no part: a BatchNorm is folded when the graph of calls says
that it alone uses the output of a Conv, ConvTranspose or Linear, and refused with a reason
otherwise. What is refused computes what it did before.
"""

from collections import Counter
from itertools import chain, count

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from foldbench.bench.records import Fold, FoldReport, Skip
from foldbench.exporters.folding.rules import (
    FoldRefusedError,
    find_layer,
    fuse,
    is_batchnorm,
    is_constant_norm,
    name_of,
    read_batchnorm,
)
from foldbench.exporters.folding.tracing import (
    Flow,
    UntraceableError,
    eval_copy,
    intervention,
    trace,
)


def fold_batchnorm(module: nn.Module, example: torch.Tensor) -> tuple[nn.Module, FoldReport]:
    """Return a copy of `module` in eval mode with its BatchNorms folded, and what was done.

    `example` is one input batch, in the dtype and on the device of the network, of any size, with
    the number of dimensions that the network will be used with. `module` is not changed. The
    result is a GraphModule with fused weights, or a plain copy when nothing could be folded.
    Raises ExportError when the network has no weights yet or does not run on `example`.
    """
    try:
        flow = trace(module, example)
    except UntraceableError as error:
        left = _count_modules(module)
        skip = Skip(module="", reason=str(error))
        return eval_copy(module), _report(left, [], [skip])
    before = _count_calls(flow)
    norms = {name_of(n) for n in flow.graph.nodes if is_constant_norm(flow.module(n))}
    folded, skipped = _fold_all(flow)
    before += sum(fold.batchnorm in norms for fold in folded)
    report = _report(before, folded, skipped)
    if not folded:
        return eval_copy(module), report
    return _assemble(flow, type(module).__name__), report


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


def _fold_all(flow: Flow) -> tuple[list[Fold], list[Skip]]:
    """Fold what can be folded in `flow`, from input to output."""
    folded: list[Fold] = []
    skipped: list[Skip] = []
    placement = _Placement(flow)
    for node in list(flow.graph.nodes):
        skipped += _hidden_batchnorms(flow, node)
        if not is_batchnorm(flow, node):
            continue
        name = name_of(node)
        try:
            batchnorm = read_batchnorm(flow, node)
            call, layer = find_layer(flow, batchnorm.source)
            fused = fuse(layer, batchnorm)
        except FoldRefusedError as refusal:
            skipped.append(Skip(module=name, reason=str(refusal)))
            continue
        folded.append(Fold(layer=placement.put(call, fused), batchnorm=name))
        _bypass(flow.graph, node, batchnorm.source)
    return folded, skipped


class _Placement:
    """Gives each fused layer a name in the graph that no other call reads."""

    def __init__(self, flow: Flow):
        self._flow = flow
        self._origin: dict[fx.Node, str] = {}
        self._reads: Counter[nn.Module] = Counter()
        for node in flow.graph.nodes:
            module = flow.module(node)
            if module is not None:
                self._reads.update(module.modules())
            elif node.op == "get_attr":
                holder = str(node.target).rpartition(".")[0]
                self._reads[flow.root.get_submodule(holder)] += 1

    def put(self, call: fx.Node, fused: nn.Module) -> str:
        """Let `call` use `fused`; return the name of the layer that it called at first.

        The fused layer takes the name over when nothing else reads the old layer. Otherwise it
        gets a name at the top, away from containers that run all their children.
        """
        name = str(call.target)
        origin = self._origin.setdefault(call, name)
        if self._reads[self._flow.module(call)] > 1:
            wanted = f"{name.replace('.', '_')}_folded"
            numbered = (f"{wanted}{n}" for n in count(2))
            taken = {*dir(self._flow.root), *self._flow.fused}
            name = next(free for free in chain([wanted], numbered) if free not in taken)
        call.target = name
        self._flow.fused[name] = fused
        return origin


def _bypass(graph: fx.Graph, node: fx.Node, source: fx.Node) -> None:
    """Let the users of `node` use `source`, and remove `node` with the tensors only it read."""
    inputs = list(node.all_input_nodes)
    node.replace_all_uses_with(source)
    graph.erase_node(node)
    for read in inputs:
        if read.op == "get_attr" and not read.users:
            graph.erase_node(read)


def _assemble(flow: Flow, name: str) -> fx.GraphModule:
    """Return the graph as a module of class `name`, with just the layers and tensors it uses."""
    parts = {}
    for node in flow.graph.nodes:
        if node.op == "call_module":
            parts[str(node.target)] = flow.module(node)
        elif node.op == "get_attr":
            parts[str(node.target)] = flow.value(node)
    return fx.GraphModule(parts, flow.graph, class_name=name).eval()


def _hidden_batchnorms(flow: Flow, node: fx.Node) -> list[Skip]:
    """Return a Skip for each BatchNorm inside a module that the graph calls as a whole."""
    whole = flow.module(node)
    if whole is None or is_batchnorm(flow, node):
        return []
    reason = f"it is inside {type(whole).__name__} '{node.target}', which is left whole: it "
    reason += intervention(whole) or "is a module of torch with inner workings of its own"
    return [
        Skip(module=f"{node.target}.{name}", reason=reason)
        for name, part in whole.named_modules()
        if isinstance(part, _BatchNorm)
    ]


def _count_calls(flow: Flow) -> int:
    nodes = list(flow.graph.nodes)
    hidden = sum(len(_hidden_batchnorms(flow, node)) for node in nodes)
    return hidden + sum(
        is_batchnorm(flow, node) and not is_constant_norm(flow.module(node)) for node in nodes
    )


def _count_modules(module: nn.Module) -> int:
    return sum(isinstance(part, _BatchNorm) for part in module.modules())


def _report(before: int, folded: list[Fold], skipped: list[Skip]) -> FoldReport:
    return FoldReport(
        batchnorms_before=before,
        batchnorms_after=before - len(folded),
        folded=tuple(folded),
        skipped=tuple(skipped),
    )

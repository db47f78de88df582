"""Parallel branches that are summed: convolutions of one input are one convolution.

W1 * x + W2 * x = (W1 + W2) * x, with zeros around the smaller kernel; the input itself, or a
BatchNorm of it, is a kernel of one tap (Ding et al. 2021, "RepVGG: Making VGG-style ConvNets Great
Again", section 3.3; 2021, "Diverse Branch Block", section 3.2).
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from foldbench.exporters.folding.algebra import (
    FoldRefusedError,
    Linear,
    add,
    compose,
    pointwise,
    scale_outputs,
)
from foldbench.exporters.folding.borders import Border, fills_of, read_border
from foldbench.exporters.folding.findings import Findings
from foldbench.exporters.folding.network import Network, same_dtype
from foldbench.exporters.folding.reshaping import hands_on, keeps_order
from foldbench.exporters.folding.scaling import Scaling, read_scaling

_SIGNS: dict[object, float] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), 1.0),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), -1.0),
}


@dataclass(eq=False)
class _Term:
    """One summand: `factor` times what `steps`, from the output back, make of `source`."""

    node: fx.Node
    factor: float
    source: fx.Node
    steps: list[tuple[fx.Node, Linear | Scaling | Border]] = field(default_factory=list)
    """Layers without their numbers."""

    def layer(self, network: Network) -> fx.Node | None:
        """Return the call of the layer nearest to the sum."""
        return next((node for node, _ in self.steps if network.is_layer(node)), None)

    def scalings(self) -> Iterator[tuple[fx.Node, str | None]]:
        """Yield the scales and shifts in it, with the name of the BatchNorm that each is."""
        for node, step in self.steps:
            if isinstance(step, Scaling):
                yield node, step.batchnorm


def fold_branches(network: Network, findings: Findings) -> None:
    """Make one layer of the summands in `network` that layers compute from one input."""
    for node in network.nodes:
        if _summands(network, node) and not _is_part_of_sum(network, node):
            _fold_sum(network, node, findings)


def _is_part_of_sum(network: Network, node: fx.Node) -> bool:
    users = list(node.users)
    return len(users) == 1 and bool(_summands(network, users[0])) and _is_once(users[0], node)


def _is_once(user: fx.Node, node: fx.Node) -> bool:
    read: list[fx.Node] = []
    fx.node.map_arg((user.args, user.kwargs), lambda one: read.append(one))
    return read.count(node) == 1


def _summands(network: Network, node: fx.Node) -> list[tuple[fx.Node, float]]:
    """Return the tensors of one shape and kind that `node` sums, with factors; else nothing."""
    if node.op not in ("call_function", "call_method"):
        return []
    if node.target in _SIGNS and len(node.args) == 2 and not node.kwargs:
        found = [(node.args[0], 1.0), (node.args[1], _SIGNS[node.target])]
    else:
        found = _stacked(node)
    nodes = [(one, factor) for one, factor in found if isinstance(one, fx.Node)]
    alike = all(
        one.op != "get_attr"
        and network.shape(one) == network.shape(node)
        and network.flow.dtypes.get(one) == network.flow.dtypes.get(node)
        for one, _ in nodes
    )
    return nodes if len(nodes) == len(found) and network.shape(node) and alike else []


def _stacked(node: fx.Node) -> list[tuple[Any, float]]:
    """Return what is averaged or added up by ``torch.stack([...], d).mean(d)`` and the like."""
    name = getattr(node.target, "__name__", node.target)
    stack = node.args[0] if node.args else None
    if name not in ("mean", "sum") or not isinstance(stack, fx.Node) or len(stack.users) > 1:
        return []
    if stack.target is not torch.stack or set(node.kwargs) - {"dim"}:
        return []
    dims = [*node.args[1:], *node.kwargs.values()]
    parts = stack.args[0]
    if not isinstance(parts, list | tuple) or len(dims) != 1:
        return []
    dim = stack.args[1] if len(stack.args) > 1 else stack.kwargs.get("dim", 0)
    if dims[0] not in (dim, (dim,), [dim]):
        return []
    return [(part, 1 / len(parts) if name == "mean" else 1.0) for part in parts]


def _fold_sum(network: Network, root: fx.Node, findings: Findings) -> None:
    terms = [_read(network, leaf, factor) for leaf, factor in _leaves(network, root)]
    done: list[_Term] = []
    merged: list[tuple[fx.Node, float]] = []
    for base in sorted(terms, key=lambda term: -_weigh(network, term)):
        if base in done or base.layer(network) is None:
            continue
        others = [t for t in terms if t is not base and t not in done and t.source is base.source]
        if not others:
            continue
        taken, numbers = _collect(network, base, others, findings)
        if not taken or not _may_rebuild(terms, [*done, base, *taken]):
            continue
        if made := _insert(network, root, base, numbers, taken, findings):
            merged.append((made, 1.0))
            done += [base, *taken]
    if done:
        rest = [(term.node, term.factor) for term in terms if term not in done]
        _rebuild(network, root, rest, merged)


def _leaves(network: Network, node: fx.Node) -> list[tuple[fx.Node, float]]:
    """Return what a sum adds up, seen through sums within that nobody else reads."""
    found = []
    for one, factor in _summands(network, node):
        inner = len(one.users) == 1 and _is_once(node, one) and _summands(network, one)
        parts = _leaves(network, one) if inner else [(one, 1.0)]
        found += [(leaf, factor * own) for leaf, own in parts]
    return found


def _read(network: Network, leaf: fx.Node, factor: float) -> _Term:
    """Return the summand `leaf`, followed back for as long as it is linear and read once."""
    term = _Term(leaf, factor, leaf)
    while _has_one_reader(network, term.source):
        try:
            step = _step(network, term.source)
        except FoldRefusedError:
            break
        if step is None:
            break
        source, numbers = step
        if numbers is not None:
            term.steps.append((term.source, numbers))
        term.source = source
    return term


def _has_one_reader(network: Network, node: fx.Node) -> bool:
    readers = {*node.users} - {*fills_of(network, node)}
    return len(readers) == 1 and _is_once(readers.pop(), node)


def _step(
    network: Network, node: fx.Node
) -> tuple[fx.Node, Linear | Scaling | Border | None] | None:
    """Return the input of `node`, and what `node` does to it; None where that is not linear."""
    if network.is_layer(node):
        return (node.all_input_nodes[0], network.form(node)) if len(node.args) == 1 else None
    if (border := read_border(network, node)) is not None:
        return border.source, border
    if (scaling := read_scaling(network, node)) is not None:
        return scaling.source, scaling
    if (pool := _average(network, node)) is not None:
        return node.all_input_nodes[0], pool
    if hands_on(network, node) and keeps_order(network, node):
        return node.all_input_nodes[0], None
    return None


def _average(network: Network, node: fx.Node) -> Linear | None:
    """Return an AvgPool2d as a convolution, channel by channel."""
    pool: Any = network.module(node)
    if type(pool) is not nn.AvgPool2d or pool.ceil_mode or pool.divisor_override is not None:
        return None
    if not pool.count_include_pad and pool.padding not in (0, (0, 0)):
        return None
    kernel, stride, sides = (
        one if isinstance(one, tuple) else (one, one)
        for one in (pool.kernel_size, pool.stride, pool.padding)
    )
    channels = network.shape(node)[1]
    weight = np.full((channels, 1, *kernel), 1 / prod(kernel))
    padding = tuple((side, side) for side in sides)
    return Linear(weight, np.zeros(channels), stride, padding, (1, 1), channels)


def _weigh(network: Network, term: _Term) -> int:
    """Return the multiplications of a summand on the example."""
    return sum(
        network.count_macs(node, step)
        for node, step in term.steps
        if isinstance(step, Linear) and network.is_layer(node)
    )


def _collect(
    network: Network, base: _Term, others: list[_Term], findings: Findings
) -> tuple[list[_Term], Linear]:
    """Return which of `others` go into `base` at no more multiplications, and the sum."""
    call = base.layer(network)
    assert call is not None
    taken: list[_Term] = []
    numbers = Linear(np.zeros(0), np.zeros(0))
    try:
        numbers = _compile(network, base, call)
        spent = _weigh(network, base)
        for other in others:
            try:
                joined = add(numbers, _compile(network, other, call))
                allowed = spent + _weigh(network, other)
                if (needed := network.count_macs(base.node, joined)) > allowed:
                    raise FoldRefusedError(f"{needed} multiplications would replace {allowed}")
            except FoldRefusedError as refusal:
                findings.left(_name(network, other), _why(network, call, refusal), "branches")
                continue
            numbers, spent = joined, needed
            taken.append(other)
    except FoldRefusedError as refusal:
        findings.left(str(call.target), str(refusal), "branches")
    return taken, numbers


def _why(network: Network, call: fx.Node, refusal: FoldRefusedError) -> str:
    return f"it stays beside {network.describe(call)}: {refusal}"


def _name(network: Network, term: _Term) -> str:
    layer = term.layer(network)
    return network.describe(term.node) if layer is None else str(layer.target)


def _compile(network: Network, term: _Term, like: fx.Node) -> Linear:
    """Return a summand as one layer of the kind that `like` calls."""
    axis, rank = network.axis(like), len(network.shape(term.node))
    module = network.module(like)
    dimensions = 0 if type(module) is nn.Linear else rank - 2
    channels = network.shape(term.source)[axis]
    made, border = None, None
    for node, step in reversed(term.steps):
        own = network.module(node)
        if network.is_layer(node):
            if not (own and module and same_dtype(own, module)):
                raise FoldRefusedError("their weights are of different kinds")
            step = network.layer(node)
        if isinstance(step, Border):
            border = step
            continue
        if isinstance(step, Scaling):
            if step.axis not in (None, axis):
                raise FoldRefusedError("it scales along another dimension")
            spread = step.spread(channels if made is None else len(made.bias))
            step = pointwise(spread.scale, spread.shift, dimensions)
        if len(step.kernel) != dimensions:
            raise FoldRefusedError("they work along different dimensions")
        made = _join(made, border, step)
        border = None
    if border is not None:
        raise FoldRefusedError("numbers are put around what it gives")
    made = made or pointwise(np.ones(channels), np.zeros(channels), dimensions)
    return scale_outputs(made, np.full(len(made.bias), term.factor), np.zeros(len(made.bias)))


def _join(before: Linear | None, border: Border | None, step: Linear) -> Linear:
    """Return `before`, the `border` around what it gives, and `step` as one layer."""
    if border is None:
        return step if before is None else compose(before, step)
    if before is None or step.is_padded:
        raise FoldRefusedError("numbers are put around its input")
    return compose(before, replace(step, padding=border.padding), border.values)


def _may_rebuild(terms: list[_Term], done: list[_Term]) -> bool:
    """Tell whether what is left of a sum can be written with plus and minus."""
    return all(term in done or abs(term.factor) == 1 for term in terms)


def _insert(
    network: Network,
    root: fx.Node,
    base: _Term,
    numbers: Linear,
    taken: list[_Term],
    findings: Findings,
) -> fx.Node | None:
    """Add the one layer before the sum; None where it cannot be."""
    call = base.layer(network)
    assert call is not None
    name = str(call.target)
    try:
        if base.source in network.find_unsteady():
            raise FoldRefusedError("their input is changed in place later")
        made = network.insert_layer(root, call, base.source, numbers)
    except FoldRefusedError as refusal:
        findings.left(name, str(refusal), "branches")
        return None
    network.copy_type(root, made)
    for term in taken:
        findings.took(name, _name(network, term), None, "branches")
    for term in (base, *taken):
        for node, batchnorm in term.scalings():
            findings.took(name, network.describe(node), batchnorm, "scale")
        for _, step in term.steps:
            for fill in step.fills if isinstance(step, Border) else ():
                network.erase(fill)
    return made


def _rebuild(
    network: Network,
    root: fx.Node,
    rest: list[tuple[fx.Node, float]],
    merged: list[tuple[fx.Node, float]],
) -> None:
    """Put the sum of `rest` and `merged` in the place of `root`."""
    parts = sorted([*merged, *rest], key=lambda part: part[1] < 0)
    total, _ = parts[0]  # one that is added, as a merged layer is
    with network.flow.graph.inserting_before(root):
        for part, sign in parts[1:]:
            function = operator.add if sign > 0 else operator.sub
            total = network.flow.graph.call_function(function, (total, part))
            total.meta = dict(root.meta)
            network.copy_type(root, total)
    root.replace_all_uses_with(total)
    network.erase_unused(root)

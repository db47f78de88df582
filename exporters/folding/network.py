"""The graph of a network while it is folded: layers as numbers, who reads what, what changes."""

from collections import Counter
from collections.abc import Collection
from itertools import chain, count
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.conv import _ConvTransposeNd

from foldbench.exporters.folding.algebra import FoldRefusedError, Linear
from foldbench.exporters.folding.constants import is_in_place
from foldbench.exporters.folding.layers import (
    is_linear,
    rank_of,
    read_form,
    read_layer,
    require_writable,
    write_layer,
)
from foldbench.exporters.folding.tracing import Flow, intervention, owner

_SHAPE_METHODS = ("size", "dim", "ndimension", "numel")
_SHAPE_ATTRIBUTES = ("shape", "ndim", "dtype", "device")
_SHAPE_OF_SECOND = ("reshape_as", "view_as", "expand_as", "type_as")
_VIEWS = (
    *("view", "reshape", "flatten", "transpose", "permute", "squeeze", "unsqueeze", "unflatten"),
    *("getitem", "chunk", "split", "unbind", "narrow", "expand", "contiguous", "detach", "t"),
    *("view_as", "reshape_as", "expand_as", "swapaxes", "movedim", "getattr", "select", "to"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "type_as", "float", "half", "unfold"),
)
"""Functions and methods whose output may be their input's memory."""
_VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d)


class Network:
    """A graph whose calls are changed one by one."""

    def __init__(self, flow: Flow):
        self.flow = flow
        self._numbers: dict[fx.Node, Linear] = {}
        self._in_place = dict.fromkeys(n for n in self.nodes if self.changes_input(n))
        self.changing = self._find_changing()
        """Tensors of the network that it changes when it is called."""

    @property
    def nodes(self) -> list[fx.Node]:
        """All calls, in order; a copy."""
        return list(self.flow.graph.nodes)

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Return the shape that `node` gives on the example; () where it gives no tensor."""
        return self.flow.shapes.get(node, ())

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that `node` called at first."""
        return self.flow.module(node)

    def is_layer(self, node: fx.Node) -> bool:
        """Tell whether `node` calls a layer that takes something in."""
        return is_linear(self.module(node))

    def layer(self, node: fx.Node) -> Linear:
        """Return the layer that `node` calls; raises FoldRefusedError where it must stay."""
        form = self.form(node)
        return form if node in self._numbers else read_layer(self.module(node))

    def form(self, node: fx.Node) -> Linear:
        """Return the same in an instant, with zeros in place of numbers that nobody changed yet."""
        module: Any = self.module(node)
        if (reason := intervention(module)) is not None:
            raise FoldRefusedError(
                f"{self.describe(node)} {reason}; folding would change its weights"
            )
        if type(module.weight) is not nn.Parameter:
            raise FoldRefusedError(f"the weight of {self.describe(node)} is no plain parameter")
        rank = rank_of(module)
        if rank is not None and len(self.shape(node)) != rank:
            raise FoldRefusedError(
                f"{self.describe(node)} gives {len(self.shape(node))} dimensions here, not {rank}, "
                "so its channels are not dimension 1"
            )
        return self._numbers[node] if node in self._numbers else read_form(module)

    def has_bias(self, node: fx.Node) -> bool:
        """Tell whether the layer that `node` calls adds one."""
        module: Any = self.module(node)
        return node in self._numbers or module.bias is not None

    def axis(self, node: fx.Node) -> int:
        """Return which dimension of what a layer gives are its features."""
        return len(self.shape(node)) - 1 if rank_of(self.module(node)) is None else 1

    def count_macs(self, node: fx.Node, numbers: Linear | None = None) -> int:
        """Return the multiplications of a layer that gives what `node` does, on the example.

        It is the one that `node` calls, or else `numbers`.
        """
        module: Any = self.module(node)
        known = numbers or self._numbers.get(node)
        weight = known.weight if known else module.weight
        transposed = known.transposed if known else isinstance(module, _ConvTransposeNd)
        shape = self.shape(node.all_input_nodes[0] if transposed else node)
        channels = shape[len(shape) - weight.ndim + 1]
        return prod(weight.shape) * prod(shape) // channels

    def put(self, node: fx.Node, numbers: Linear) -> None:
        """Let `node` call a layer with `numbers`; raises FoldRefusedError where there is none."""
        module = self.module(node)
        assert module is not None
        require_writable(numbers, module)
        self._numbers[node] = numbers

    def insert_layer(
        self, before: fx.Node, like: fx.Node, source: fx.Node, numbers: Linear
    ) -> fx.Node:
        """Add a call of a layer like the one `like` calls; what it gives has the shape of that."""
        module = self.module(like)
        assert module is not None
        require_writable(numbers, module)
        with self.flow.graph.inserting_before(before):
            node = self.flow.graph.call_module(str(like.target), (source,))
        node.meta = dict(like.meta)
        self.copy_type(like, node)
        self._numbers[node] = numbers
        return node

    def replace_module(self, node: fx.Node, module: nn.Module) -> None:
        """Let `node`, and no other call, call `module` in place of its own."""
        target = str(node.target)
        if self._count_reads()[self.flow.modules[target]] > 1:
            target = _free_name(target, set(self.flow.modules) | set(dir(self.flow.root)))
        self.flow.modules[target] = module
        node.target = target

    def copy_type(self, old: fx.Node, new: fx.Node) -> None:
        """Note that `new` gives tensors like those of `old`."""
        self.flow.shapes[new], self.flow.dtypes[new] = self.flow.shapes[old], self.flow.dtypes[old]

    def bypass(self, node: fx.Node, source: fx.Node) -> None:
        """Let the users of `node` use `source`, and remove `node`."""
        node.replace_all_uses_with(source)
        self.erase(node)

    def erase(self, node: fx.Node) -> None:
        """Remove `node`, which nothing reads, and the tensors and sizes that only it read."""
        inputs = node.all_input_nodes
        self._in_place.pop(node, None)
        self.flow.graph.erase_node(node)
        for read in inputs:
            if not read.users and (read.op == "get_attr" or _reads_shape(read)):
                self.erase(read)

    def erase_unused(self, node: fx.Node) -> None:
        """Remove `node`, which nothing reads, and all that only it read."""
        inputs = node.all_input_nodes
        self._in_place.pop(node, None)
        self.flow.graph.erase_node(node)
        for read in inputs:
            if not read.users and read.op != "placeholder":
                self.erase_unused(read)

    def readers(self, node: fx.Node) -> list[fx.Node]:
        """Return what uses the values (not just the shape) of `node`."""
        return [user for user in node.users if not _reads_shape(user, node)]

    def require_single_use(self, node: fx.Node) -> None:
        """Raise FoldRefusedError unless one call alone uses the values of `node`."""
        users = self.readers(node)
        if len(users) > 1:
            names = ", ".join(dict.fromkeys(self.describe(user) for user in users))
            raise FoldRefusedError(
                f"the output of {self.describe(node)} is used {len(users)} times ({names}), and "
                "folding would change it for all of them"
            )

    def describe(self, node: fx.Node) -> str:
        """Return what `node` is, for a reader who knows the network's code and not its graph."""
        module = self.module(node)
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

    def find_unsteady(self) -> set[fx.Node]:
        """Return the nodes whose values a later call changes in place, for others to see."""
        unsteady: set[fx.Node] = set()
        for node in self._in_place:
            aliases, place = [], node
            while place.all_input_nodes and (place is node or self._may_alias(place)):
                place = place.all_input_nodes[0]
                aliases.append(place)
            if any(len(alias.users) > 1 for alias in aliases):
                unsteady.update(*(_views_of(alias, self._may_alias) for alias in aliases))
        return unsteady

    def _find_changing(self) -> set[fx.Node]:
        changed = {n.all_input_nodes[0] for n in self._in_place}
        names = {node.target for node in changed if node.op == "get_attr"}
        return {node for node in self.nodes if node.op == "get_attr" and node.target in names}

    def changes_input(self, node: fx.Node) -> bool:
        """Tell whether `node` changes its first input in place."""
        module = self.module(node)
        return is_in_place(node) if module is None else bool(getattr(module, "inplace", False))

    def _may_alias(self, node: fx.Node) -> bool:
        module = self.module(node)
        if module is not None:
            known = type(module).__module__.startswith("torch.nn.modules")
            return not known or isinstance(module, _VIEW_MODULES) or self.changes_input(node)
        name = getattr(node.target, "__name__", node.target)
        return name in _VIEWS or self.changes_input(node)

    def assemble(self, name: str) -> fx.GraphModule:
        """Return the graph as a module of class `name`, with just the layers and tensors it uses.

        A new layer takes over the name of the old one when nothing else reads that. Otherwise it
        gets a name at the top, away from containers that run all their children.
        """
        reads = self._count_reads()
        taken = {*dir(self.flow.root), *self.flow.modules}
        parts: dict[str, Any] = {}
        for node in self.nodes:
            if node in self._numbers:
                module, target = self.module(node), str(node.target)
                assert module is not None
                if reads[module] > 1:
                    target = _free_name(target, taken)
                    taken.add(target)
                parts[target] = write_layer(self._numbers[node], module)
                node.target = target
            elif node.op == "call_module":
                parts[str(node.target)] = self.module(node)
            elif node.op == "get_attr":
                parts[str(node.target)] = self.flow.value(node)
        return fx.GraphModule(parts, self.flow.graph, class_name=name).eval()

    def _count_reads(self) -> Counter[nn.Module]:
        """Return how many calls read a module or what it holds."""
        reads: Counter[nn.Module] = Counter()
        for node in self.nodes:
            module = self.module(node)
            if module is not None:
                reads.update(module.modules())
            elif node.op == "get_attr":
                holder = str(node.target).rpartition(".")[0]
                reads[self.flow.root.get_submodule(holder)] += 1
        return reads


def _free_name(target: str, taken: Collection[str]) -> str:
    """Return a name at the top, like `target`, for what one of its calls has become."""
    wanted = f"{target.replace('.', '_')}_folded"
    numbered = (f"{wanted}{n}" for n in count(2))
    return next(one for one in chain([wanted], numbered) if one not in taken)


def _views_of(node: fx.Node, may_alias: Any) -> set[fx.Node]:
    """Return `node` and all that may be its memory."""
    found, waiting = {node}, [node]
    while waiting:
        for user in waiting.pop().users:
            if user not in found and may_alias(user):
                found.add(user)
                waiting.append(user)
    return found


def _reads_shape(node: fx.Node, source: fx.Node | None = None) -> bool:
    """Tell whether `node` reads only what folding does not change of its input `source`."""
    if node.op == "call_method":
        as_shape = node.target in _SHAPE_OF_SECOND and source is not None
        return node.target in _SHAPE_METHODS or (as_shape and source is not node.args[0])
    return node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES


def is_dropout(node: fx.Node) -> bool:
    """Tell whether `node` calls a dropout as a function."""
    return node.target in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)


def same_dtype(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether two layers have weights of one kind."""
    weights: tuple[Any, Any] = (first.weight, second.weight)
    return bool(weights[0].dtype == weights[1].dtype) and isinstance(weights[0], torch.Tensor)

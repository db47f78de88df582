"""What a network computes from its parameters alone, in every call: computed once.

Weight standardisation and the like hide a convolution behind arithmetic on its weight. In eval mode
that gives the same weight in every call, so the call is that of a layer.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_LAYERS: dict[object, type[nn.Module]] = {
    F.conv1d: nn.Conv1d,
    F.conv2d: nn.Conv2d,
    F.conv3d: nn.Conv3d,
    F.linear: nn.Linear,
}
_HOOKS: dict[type, Callable[[nn.Module, str], object]] = {
    WeightNorm: remove_weight_norm,
    SpectralNorm: remove_spectral_norm,
    prune.BasePruningMethod: prune.remove,
}
_IN_PLACE_OPERATORS = (
    "setitem",
    *(f"i{name}" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")),
)
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def fix_weights(root: nn.Module) -> list[str]:
    """Make plain parameters of weights that are computed in every call; return their layers.

    These are torch's parametrisations that give the same twice, and the hooks of its weight_norm,
    spectral_norm and pruning. `root` is in eval mode, and is changed.
    """
    return [
        path
        for path, part in root.named_modules()
        if not part.training and _fix_parametrised(part) | _fix_hooked(part)
    ]


def _fix_parametrised(part: nn.Module) -> bool:
    if not parametrize.is_parametrized(part):
        return False
    names = [*part.parametrizations]
    with torch.enable_grad():  # without, torch makes buffers of what was parameters
        if not all(torch.equal(getattr(part, name), getattr(part, name)) for name in names):
            return False
        _give_own_class(part)
        for name in names:
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    return True


def _give_own_class(part: nn.Module) -> None:
    """Let `part` share its class with no copy: torch takes the class's properties away, too."""
    shared = type(part)
    held = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
    part.__class__ = type(shared.__name__, shared.__bases__, held)


def _fix_hooked(part: nn.Module) -> bool:
    fixed = False
    for hook in [*part._forward_pre_hooks.values()]:
        for kind, remove in _HOOKS.items():
            name = getattr(hook, "_tensor_name", getattr(hook, "name", None))
            if isinstance(hook, kind) and isinstance(name, str):
                remove(part, name)
                fixed = True
    return fixed


def compute_constants(root: nn.Module, graph: fx.Graph) -> list[str]:
    """Replace in `graph` what follows from tensors of `root` alone by buffers of `root`.

    Convolutions and linear layers called as functions with such weights become modules, whose names
    are returned. Both arguments are changed.
    """
    values = _find_constants(root, graph)
    for node, value in values.items():
        users = [user for user in node.users if user not in values]
        if node.op == "get_attr" or not users or not isinstance(value, torch.Tensor):
            continue
        name = _free_name(root, f"{node.name}_constant")
        root.register_buffer(name, value.detach().clone(), persistent=False)
        with graph.inserting_before(node):
            constant = graph.get_attr(name)
        node.replace_all_uses_with(constant, delete_user_cb=lambda user: user not in values)
    for node in reversed([*values]):
        if not node.users:
            graph.erase_node(node)
    called = [n for n in graph.nodes if n.target in _LAYERS and n.op == "call_function"]
    made = [_call_layer(root, graph, node) for node in called]
    return [name for name in made if name]


def _find_constants(root: nn.Module, graph: fx.Graph) -> dict[fx.Node, Any]:
    """Return the nodes that have the same value in every call, with their values, in order."""
    changed = {node.all_input_nodes[0] for node in graph.nodes if is_in_place(node)}
    names = {node.target for node in changed if node.op == "get_attr"}
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node in changed or node.target in names:
            continue
        if node.op == "get_attr":
            values[node] = operator.attrgetter(str(node.target))(root)
        elif node.op in ("call_function", "call_method") and not is_in_place(node):
            inputs = node.all_input_nodes
            if inputs and all(one in values for one in inputs):
                _evaluate(node, values)
    return values


def _evaluate(node: fx.Node, values: dict[fx.Node, Any]) -> None:
    """Add the value of `node`, unless the call fails or gives something else the next time."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    if node.op == "call_method":
        call: Any = getattr(args[0], str(node.target))
        args = args[1:]
    else:
        call = node.target
    try:
        with torch.no_grad():
            first, second = call(*args, **kwargs), call(*args, **kwargs)
    except Exception:  # it stays a call
        return
    if not isinstance(first, torch.Tensor) or torch.equal(first, second):
        values[node] = first


def is_in_place(node: fx.Node) -> bool:
    """Tell whether `node`, which calls a function or method, changes its first input."""
    if node.op not in ("call_function", "call_method") or not node.all_input_nodes:
        return False
    name = str(getattr(node.target, "__name__", node.target))
    if getattr(node.target, "__module__", None) == "_operator":
        return name in _IN_PLACE_OPERATORS
    marked = name.endswith("_") and not name.endswith("__")
    return marked or "out" in node.kwargs or bool(node.kwargs.get("inplace"))


def _call_layer(root: nn.Module, graph: fx.Graph, node: fx.Node) -> str | None:
    """Let `node` call a module where its weights are tensors of `root` and all else is fixed.

    Returns the module's name; None where the call stays.
    """
    given: dict[str, Any] = {**dict(zip(_ARGUMENTS, node.args, strict=False)), **node.kwargs}
    source, weight, bias = (given.pop(name, None) for name in _ARGUMENTS[:3])
    tensors = [read for read in (weight, bias) if read is not None]
    if not all(isinstance(read, fx.Node) and read.op == "get_attr" for read in tensors):
        return None
    if weight is None or any(isinstance(value, fx.Node) for value in given.values()):
        return None
    values = [operator.attrgetter(str(read.target))(root) for read in tensors]
    name = _name_layer(root, graph, node)
    root.set_submodule(name, _make_layer(_LAYERS[node.target], values, given))
    with graph.inserting_before(node):
        call = graph.call_module(name, (source,))
    node.replace_all_uses_with(call)
    graph.erase_node(node)
    for read in tensors:
        if not read.users:
            graph.erase_node(read)
    return name


def _make_layer(
    kind: type[nn.Module], tensors: Sequence[torch.Tensor], settings: Mapping[str, Any]
) -> nn.Module:
    """Return a layer with `tensors`, weight and maybe bias, as its parameters."""
    weight = tensors[0]
    outputs, inputs = weight.shape[0], weight.shape[1] * settings.get("groups", 1)
    sizes = {} if kind is nn.Linear else {"kernel_size": tuple(weight.shape[2:])}
    layer = kind(inputs, outputs, **sizes, bias=len(tensors) > 1, **settings, device="meta")
    for name, value in zip(("weight", "bias"), tensors, strict=False):
        setattr(layer, name, nn.Parameter(value.detach().clone()))
    return layer.eval()


def _name_layer(root: nn.Module, graph: fx.Graph, node: fx.Node) -> str:
    """Return the name of the module whose code makes the call, where nothing else reads it."""
    path = _owner_of(node)
    for other in graph.nodes:
        if other is node or list(other.users) == [node]:
            continue
        inside = other.op in ("get_attr", "call_module") and f"{other.target}.".startswith(
            f"{path}."
        )
        if inside or (other.target in _LAYERS and _owner_of(other) == path):
            path = ""
    return path or _free_name(root, f"{node.name}_layer")


def _owner_of(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] if stack else ""


def _free_name(root: nn.Module, wanted: str) -> str:
    numbered = (f"{wanted}{n}" for n in count(2))
    return next(name for name in chain([wanted], numbered) if not hasattr(root, name))

"""The data flow of a network: its fx graph, checked against the network on an example."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from foldbench.bench.errors import ExportError, one_line
from foldbench.exporters.folding.constants import compute_constants, fix_weights
from foldbench.exporters.folding.copying import copy_network
from foldbench.exporters.folding.shapes import ShapeTracer, WritableProxy

SAME_PADDED = "timm.layers.conv2d_same.Conv2dSame"
"""A Conv2d that pads by the size of its input, on which its code branches."""

FROZEN = "FrozenBatchNorm2d"
"""What torchvision and others call a BatchNorm whose numbers are all buffers."""

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class UntraceableError(Exception):
    """A network whose data flow is not known; its text says why."""


@dataclass
class Flow:
    """What a network computes, call by call."""

    root: nn.Module
    """A private copy of the network in eval mode, to which the graph's names refer."""
    modules: dict[str, nn.Module]
    """Those of `root`, by all their names."""
    graph: fx.Graph
    shapes: dict[fx.Node, tuple[int, ...]]
    """Of every tensor in the graph, seen on the example."""
    dtypes: dict[fx.Node, torch.dtype]
    """The same for what they hold."""
    sizes: dict[fx.Node, Any]
    """Whole numbers and shapes that calls give, seen on the example."""
    training: frozenset[str]
    """Names of the modules that are in train mode, or go back to it by themselves."""
    constants: list[str]
    """Layers whose weights were computed in every call, and are not any more."""

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that `node` calls as a whole; None where it calls no module."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def value(self, node: object) -> Any:
        """Return the parameter, buffer or constant that `node` reads; None where it reads none."""
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        path, _, name = str(node.target).rpartition(".")
        return getattr(self.modules[path], name)


def eval_copy(module: nn.Module) -> nn.Module:
    """Return a copy of `module` in eval mode that shares no tensor with it."""
    copied = copy_network(module)
    copied.eval()  # what a network's own train() returns is not to be relied on
    return copied


def kind_of(module: nn.Module) -> str:
    """Return the full name of the class of `module`."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def owner(node: fx.Node) -> tuple[str, type | None]:
    """Return qualified name and class of the module whose code makes the call `node`."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1] if stack else ("", None)


def intervention(module: nn.Module) -> str | None:
    """Return what changes or watches `module` from outside, as text; None for nothing."""
    for kind in _HOOKS:
        for hook in getattr(module, kind).values():
            name = getattr(hook, "__qualname__", type(hook).__qualname__).rpartition(".")[2]
            return f"carries the {kind.strip('_').replace('_', ' ').removesuffix('s')} {name}"
    if is_parametrized(module):
        return "has parametrised weights, which are computed anew in every call"
    if not {"forward", "_conv_forward"}.isdisjoint(vars(module)):
        return "had its forward method replaced"
    return None


def trace(module: nn.Module, example: torch.Tensor) -> Flow:
    """Return the data flow of `module` in eval mode; `example` is one input batch of any size.

    A copy of the network runs twice: as it is, and as its graph. Raises ExportError when it does
    not run on `example` or has no weights yet, UntraceableError when it has no graph that computes
    the same.
    """
    if any(is_lazy(t) for t in (*module.parameters(), *module.buffers())):
        raise ExportError("the network has lazy layers without weights; run it on a batch first")
    if isinstance(module, torch.jit.ScriptModule):
        raise UntraceableError("the network is TorchScript, which has no Python code to follow")
    root = eval_copy(module)
    training = frozenset(
        name
        for tree in (module, root)
        for name, part in tree.named_modules(remove_duplicate=False)
        if part.training
    )
    if (reason := intervention(root)) is not None:
        raise UntraceableError(f"the network itself {reason}")
    before = _state_of(root)
    try:
        expected = _run(root, example)
    except Exception as error:
        raise ExportError(
            f"the network does not run on an example of shape {tuple(example.shape)}: "
            f"{one_line(error)}; give one input batch as the network expects it"
        ) from error
    is_steady = before is not None and _state_of(root) == before
    root = root if is_steady else eval_copy(module)
    constants = fix_weights(root)
    _take_one_input(root)
    try:
        graph = _graph(root, _Tracer())
    except UntraceableError:
        with torch.random.fork_rng(_devices(example)):
            graph = _graph(root, _TracerOfShapes(example))
    constants += compute_constants(root, graph)
    probe = _ShapeRecorder(root if is_steady else eval_copy(root), graph=graph)
    try:
        torch.testing.assert_close(_run(probe.run, example), expected, equal_nan=True)
    except Exception as error:
        raise UntraceableError(
            f"its trace by torch.fx does not compute the same: {one_line(error, 160)}"
        ) from error
    modules = dict(root.named_modules(remove_duplicate=False))
    return Flow(root, modules, graph, probe.shapes, probe.dtypes, probe.sizes, training, constants)


def _state_of(root: nn.Module) -> list[tuple[int, int]] | None:
    """Return what differs after a run that changes `root`; None where that cannot be seen.

    These are what its modules hold, and the versions that torch counts of tensors, unless they are
    of its inference mode. What hooks change may be anywhere.
    """
    parts, tensors = list(root.modules()), (*root.parameters(), *root.buffers())
    if any(map(intervention, parts)) or any(tensor.is_inference() for tensor in tensors):
        return None
    held = [(id(value), 0) for part in parts for value in vars(part).values()]
    return held + [(id(tensor), tensor._version) for tensor in tensors]


def _take_one_input(root: nn.Module) -> None:
    """Let `root` be called with one input and nothing else, whatever its forward can take."""
    kind = type(root)

    def forward(self: nn.Module, x: torch.Tensor) -> Any:
        return kind.forward(self, x)

    if len(inspect.signature(root.forward).parameters) > 1 or _takes_any_number(root):
        root.__class__ = type(kind.__name__, (kind,), {"forward": forward})


def _takes_any_number(root: nn.Module) -> bool:
    kinds = {p.kind for p in inspect.signature(root.forward).parameters.values()}
    return inspect.Parameter.VAR_POSITIONAL in kinds


def _graph(root: nn.Module, tracer: fx.Tracer) -> fx.Graph:
    """Return the graph of `root`, which must have run on an input before."""
    # BatchNorm's own check of its input branches on it, and has passed when the network ran.
    checked = [m for m in root.modules() if isinstance(m, _BatchNorm)]
    checked = [m for m in checked if not tracer.is_leaf_module(m, "")]
    for batchnorm in checked:
        batchnorm._check_input_dim = _accept
    try:
        with torch.no_grad():
            return tracer.trace(root)
    except Exception as error:
        raise UntraceableError(
            f"torch.fx cannot trace it, so its data flow is unknown: {one_line(error, 160)}"
        ) from error
    finally:
        for batchnorm in checked:
            del batchnorm._check_input_dim


class _Tracer(fx.Tracer):
    """Looks into every module but torch's own and those that are changed from outside.

    Finds tensors by a table, for which torch.fx goes through all modules each time.
    """

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Return the graph of `root`."""
        held = (*root.named_parameters(), *root.named_buffers())
        self._names: dict[torch.Tensor, str] = {tensor: name for name, tensor in held}
        return super().trace(root, concrete_args)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return a proxy to parts of which values can be assigned."""
        return WritableProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        """Return a tensor of the network as the call that reads it, all else as torch.fx does."""
        if isinstance(a, torch.Tensor) and a in self._names:
            return self.create_node("get_attr", self._names[a], (), {})
        return super().create_arg(a)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a parameter of the network as a proxy, the same each time."""
        if not isinstance(attr_val, nn.Parameter) or attr_val not in self._names:
            return super().getattr(attr, attr_val, parameter_proxy_cache)
        name = self._names[attr_val]
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = intervention(m) is not None or kind_of(m) == SAME_PADDED
        whole = whole or type(m).__name__ == FROZEN
        return whole or super().is_leaf_module(m, module_qualified_name)


class _TracerOfShapes(_Tracer, ShapeTracer):
    """Knows the sizes as well."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return a proxy that knows its sizes, and to which values can be assigned."""
        return ShapeTracer.proxy(self, node)


class _ShapeRecorder(fx.Interpreter):
    """Runs a graph and notes the shape of each tensor."""

    def __init__(self, module: nn.Module, graph: fx.Graph):
        super().__init__(module, graph=graph)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.dtypes: dict[fx.Node, torch.dtype] = {}
        self.sizes: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.shapes[n], self.dtypes[n] = tuple(value.shape), value.dtype
        elif isinstance(value, int | torch.Size):
            self.sizes[n] = value
        return value


def _run(network: Callable[[torch.Tensor], Any], example: torch.Tensor) -> Any:
    """Return the output for a copy of `example`, with the same random numbers in every call."""
    repeatable = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with torch.no_grad(), repeatable, torch.random.fork_rng(_devices(example)):
        torch.manual_seed(0)
        return network(example.clone())


def _devices(example: torch.Tensor) -> list[torch.device]:
    """Return the devices besides the CPU whose random numbers a run draws."""
    return [example.device] if example.device.type == "cuda" else []


def _accept(_: torch.Tensor) -> None:
    """Stand in for BatchNorm's check of its input's rank."""

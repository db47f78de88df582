"""Tracing by torch.fx in which every size but the batch is the number that it is.

Code that branches on shapes, or computes with them in Python, has no graph while shapes are
symbols. Here each call is also made on two batches of different sizes: what has the same value in
both, and follows from shapes alone, is a constant of the graph.
"""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

_SHAPE_METHODS = ("size", "dim", "ndimension", "numel", "stride", "is_floating_point")
_SHAPE_ATTRIBUTES = ("shape", "ndim", "dtype", "device", "is_cuda", "layout")
_CONSTANTS = (int, float, bool, torch.Size, torch.dtype, torch.device, torch.layout, tuple)

_MODULE_CALLS = {name: getattr(nn.Module, name) for name in ("__call__", "__getattr__")}
"""As they are while nothing is traced."""


class WritableProxy(fx.Proxy):
    """A proxy to parts of which values can be assigned."""

    def __setitem__(self, place: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, place, value), {})


class ShapeTracer(fx.Tracer):
    """Traces a network with the shapes that it has on `example`, a batch of two or more inputs."""

    def __init__(self, example: torch.Tensor) -> None:
        super().__init__()
        self._examples = (example, torch.cat([example, example[:1]]))
        self._values: dict[fx.Node, tuple[Any, Any]] = {}

    def create_proxy(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the call as a proxy, or its value where that is a constant."""
        proxy = super().create_proxy(kind, target, *args, **kwargs)
        values = self._evaluate(proxy.node)
        if values is None:
            return proxy
        if self._is_shape(proxy.node) and _same_constant(*values):
            self.graph.erase_node(proxy.node)
            return values[0]
        self._values[proxy.node] = values
        return proxy

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return a proxy that knows how many parts it has."""
        return _ShapedProxy(node, self)

    def count_parts(self, node: fx.Node) -> int | None:
        """Return how many parts the value of `node` has in both batches; None where they differ."""
        values = self._values.get(node)
        try:
            counts = {len(value) for value in values or ()}
        except TypeError:
            return None
        return counts.pop() if len(counts) == 1 else None

    def _evaluate(self, node: fx.Node) -> tuple[Any, Any] | None:
        """Return the values of a call on both batches; None where it cannot be made."""
        if node.op == "placeholder":
            return self._examples
        traced = {name: getattr(nn.Module, name) for name in _MODULE_CALLS}
        for name, plain in _MODULE_CALLS.items():
            setattr(nn.Module, name, plain)
        try:
            first, second = (self._call(node, batch) for batch in (0, 1))
            return first, second
        except Exception:  # its value stays unknown, and it is traced as torch.fx does
            return None
        finally:
            for name, patched in traced.items():
                setattr(nn.Module, name, patched)

    def _call(self, node: fx.Node, batch: int) -> Any:
        def value_of(read: fx.Node) -> Any:
            if read.op == "get_attr":
                value = operator.attrgetter(str(read.target))(self.root)
            else:
                value = self._values[read][batch]
            return value.clone() if isinstance(value, torch.Tensor) else value

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), value_of)
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _is_shape(self, node: fx.Node) -> bool:
        """Tell whether a call reads shapes alone, no numbers of a tensor."""
        if node.op == "call_method" and node.target in _SHAPE_METHODS:
            return True
        if node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES:
            return True
        inputs = [self._values[read][0] for read in node.all_input_nodes if read in self._values]
        known = len(inputs) == len(node.all_input_nodes) > 0
        return known and not any(isinstance(value, torch.Tensor) for value in inputs)


class _ShapedProxy(WritableProxy):
    """A proxy whose shape is read at once, and which can be unpacked."""

    tracer: ShapeTracer

    def __getattr__(self, name: str) -> Any:
        if name in _SHAPE_ATTRIBUTES:
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)

    def __len__(self) -> int:
        count = self.tracer.count_parts(self.node)
        return super().__len__() if count is None else count

    def __iter__(self) -> Iterator[Any]:
        count = self.tracer.count_parts(self.node)
        return super().__iter__() if count is None else (self[index] for index in range(count))


def _same_constant(first: Any, second: Any) -> bool:
    return isinstance(first, _CONSTANTS) and type(first) is type(second) and first == second

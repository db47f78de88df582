"""Write Mish, however it is spelled, in the form that onnxruntime computes fastest on a CPU.

onnxruntime 1.31 has no kernel for Mish on the CPU: it runs Softplus, Tanh and Mul, of which
Softplus alone takes longer than all six operators of the form used here,

    mish(x) = x tanh(ln(1 + e^x)) = x / (1 + 2 / (e^x (e^x + 2))),

which follows from tanh(ln u) = (u^2 - 1) / (u^2 + 1). It needs no clipping: where e^x overflows the
quotient is 0 and the result x, where it underflows the quotient is infinite and the result 0. Its
relative error stays within 4 units in the last place for x < 0, where forms that compute 1 - 2 / d
lose all digits.

Found are the operator Mish and x * tanh(softplus(x)) in either order, with softplus as an operator,
as ln(1 + e^x), or as PyTorch writes it (x itself above a threshold). Not measured on a GPU, so not
on for targets other than the CPU: there the graph stays as it was exported.
"""

import numpy as np
import onnx_ir as ir
from onnx import ModelProto

from bench.records import PassReport
from exporters.passes._graph import (
    Log,
    RefusedError,
    add_constant,
    is_op,
    is_used_outside,
    made_by,
    opset_of,
    rewrite,
    scalar_of,
)

ERROR_BOUND = 5e-7
TARGETS = ("cpu", "host")
HOST_SPECIFIC = False

_MEASURED = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_LEAST_THRESHOLD = 15.0
"""Above it tanh(x) and tanh(softplus(x)) are the same number, also in float64."""
_LEAST_OPSET = 7
"""From which on operators broadcast as they do now."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with every Mish in float32 or float64 written as x / (1 + 2 / (e(e + 2)))."""
    how = "written as x / (1 + 2 / (e(e + 2))), e = exp(x)"
    return rewrite(model, "mish", "Mish", how, _edit)


def _edit(model: ir.Model, log: Log) -> None:
    constants: dict[ir.DataType, tuple[ir.Value, ir.Value]] = {}
    for node in list(model.graph.all_nodes()):
        try:
            found = _match(node)
            if found is None:
                continue
            _check(found, opset_of(model))
        except RefusedError as refusal:
            log.left[str(refusal)] += 1
            continue
        dtype = found.x.dtype
        assert dtype is not None  # _check has refused the others
        if dtype not in constants:
            numbers = (np.array(n, dtype.numpy()) for n in (1, 2))
            one, two = (add_constant(model.graph, f"mish_{int(n)}", n) for n in numbers)
            constants[dtype] = (one, two)
        _replace(found, *constants[dtype])
        log.done += 1


class _Mish:
    """A Mish in the graph: its input, and its nodes, the one that gives its result first.

    Casts of its constants to the type of a value within it belong to it.
    """

    def __init__(self, x: ir.Value, *nodes: ir.Node) -> None:
        self.x = x
        uses = (use for node in nodes[1:] for value in node.outputs for use in value.uses())
        casts = [use.node for use in uses if is_op(use.node, "CastLike") and use.idx == 1]
        own = [cast for cast in casts if not is_used_outside(cast.outputs[0], nodes)]
        self.nodes = tuple(dict.fromkeys((*nodes, *own)))


def _match(node: ir.Node) -> _Mish | None:
    """Return the Mish whose result `node` gives; raise RefusedError for one of another shape."""
    if is_op(node, "Mish"):
        return _Mish(_given(node, 0), node)
    if not is_op(node, "Mul"):
        return None
    for x, other in (node.inputs, reversed(node.inputs)):
        tanh = made_by(other, "Tanh")
        if tanh is None or x is None:
            continue
        inner = _match_softplus(_given(tanh, 0), x)
        if inner is not None:
            return _Mish(x, node, tanh, *inner)
    return None


def _match_softplus(value: ir.Value, x: ir.Value) -> list[ir.Node] | None:
    """Return the nodes that make `value` = softplus(x), the last one first."""
    value, ones = _without_ones(value)
    node = value.producer()
    if is_op(node, "Softplus"):
        given, more = _without_ones(_given(node, 0))
        return [*ones, node, *more] if given is x else None
    if is_op(node, "Log"):
        inner = _match_log(_given(node, 0), x)
        return [*ones, node, *inner] if inner else None
    if is_op(node, "Where"):
        inner = _match_where(node, x)
        return [*ones, node, *inner] if inner else None
    if is_op(node, "Div") and made_by(node.inputs[0], "Softplus"):
        beta = scalar_of(node.inputs[1])
        raise RefusedError(f"its softplus has a beta of {'its own' if beta is None else beta}")
    return None


def _match_log(value: ir.Value, x: ir.Value) -> list[ir.Node] | None:
    """Return the nodes that make `value` = 1 + e^x."""
    add = made_by(value, "Add")
    for one, other in (add.inputs, reversed(add.inputs)) if add else ():
        exp = made_by(other, "Exp")
        if add and exp and exp.inputs[0] is x and scalar_of(one) == 1.0:
            return [add, exp]
    return None


def _match_where(node: ir.Node, x: ir.Value) -> list[ir.Node] | None:
    """Return the nodes besides `node` that make x above a threshold, and softplus(x) below."""
    inner = _match_softplus(_given(node, 2), x)
    compare = made_by(node.inputs[0], "Greater", "GreaterOrEqual")
    if inner is None or compare is None or node.inputs[1] is not x:
        return None
    given, ones = _without_ones(_given(compare, 0))
    threshold = scalar_of(compare.inputs[1])
    if given is not x or threshold is None:
        return None
    if threshold < _LEAST_THRESHOLD:
        raise RefusedError(
            f"its softplus is x itself from {threshold:g} on, which is not Mish below "
            f"{_LEAST_THRESHOLD:g}"
        )
    return [compare, *ones, *inner]


def _without_ones(value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """Return what `value` is multiplied from or divided by 1, and the nodes that do so."""
    node = made_by(value, "Mul", "Div")
    if node is None or scalar_of(node.inputs[1]) != 1.0:
        return value, []
    inner, more = _without_ones(_given(node, 0))
    return inner, [node, *more]


def _given(node: ir.Node, index: int) -> ir.Value:
    """Return an input that the operator must have."""
    value = node.inputs[index]
    if value is None:
        raise RefusedError(f"{node.op_type} lacks an input")
    return value


def _check(found: _Mish, opset: int) -> None:
    """Raise RefusedError where the form is not known to hold or would not remove anything."""
    dtype = found.x.dtype
    if dtype not in _MEASURED:
        shown = "unknown type" if dtype is None else dtype.name.lower()
        raise RefusedError(f"{shown}, the form is for float32 and float64")
    if opset < _LEAST_OPSET:
        raise RefusedError(f"opset {opset}, the form needs {_LEAST_OPSET} or newer")
    for node in found.nodes[1:]:
        if any(is_used_outside(value, found.nodes) for value in node.outputs):
            raise RefusedError(f"its {node.op_type} is used by another operator too")


def _replace(found: _Mish, one: ir.Value, two: ir.Value) -> None:
    last = found.nodes[0]
    tape = ir.tape.Tape()
    e = tape.op("Exp", [found.x])
    product = tape.op("Mul", [e, tape.op("Add", [e, two])])
    divisor = tape.op("Add", [tape.op("Div", [two, product]), one])
    y = tape.op("Div", [found.x, divisor])
    for node in tape.nodes:
        for value in node.outputs:
            value.type, value.shape = found.x.type, found.x.shape
    graph = last.graph
    assert graph is not None  # it was found in one
    ir.convenience.replace_nodes_and_values(graph, last, found.nodes, tape.nodes, last.outputs, [y])

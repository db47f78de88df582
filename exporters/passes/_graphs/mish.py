"""How Mish can be spelled in a graph, and finding it."""

from collections.abc import Collection

import onnx_ir as ir

from foldbench.bench import units
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    is_op,
    is_used_outside,
    made_by,
    scalar_of,
)

_LEAST_THRESHOLD = 15.0
"""Above it tanh(x) and tanh(softplus(x)) are the same number, also in float64."""


class Mish:
    """A Mish in the graph: its input, and its nodes, the one that gives its result first.

    Casts of its constants to the type of a value within it belong to it.
    """

    def __init__(self, x: ir.Value, *nodes: ir.Node) -> None:
        self.x = x
        uses = (use for node in nodes[1:] for value in node.outputs for use in value.uses())
        casts = [use.node for use in uses if is_op(use.node, "CastLike") and use.idx == 1]
        own = [cast for cast in casts if not is_used_outside(cast.outputs[0], nodes)]
        self.nodes = tuple(dict.fromkeys((*nodes, *own)))


def match(node: ir.Node) -> Mish | None:
    """Return the Mish whose result `node` gives; raise PassRefusedError for one of another form."""
    if is_op(node, "Mish"):
        return Mish(_given(node, 0), node)
    if not is_op(node, "Mul"):
        return None
    for x, other in (node.inputs, reversed(node.inputs)):
        tanh = made_by(other, "Tanh")
        if tanh is None or x is None:
            continue
        inner = _match_softplus(_given(tanh, 0), x)
        if inner is not None:
            return Mish(x, node, tanh, *inner)
    return None


def match_form(node: ir.Node) -> Mish | None:
    """Return the Mish that the pass `mish` has written as x / (1 + 2 / (e(e + 2)))."""
    if node.op_type != "Div" or node.domain:
        return None
    x, divisor = node.inputs[0], made_by(node.inputs[1], "Add")
    quotient = made_by(divisor.inputs[0], "Div") if divisor else None
    product = made_by(quotient.inputs[1], "Mul") if quotient else None
    e = made_by(product.inputs[0], "Exp") if product else None
    inner = made_by(product.inputs[1], "Add") if product else None
    if not (x and divisor and quotient and product and e and inner):
        return None
    same = e.inputs[0] is x and inner.inputs[0] is e.outputs[0]
    numbers = (divisor.inputs[1], quotient.inputs[0], inner.inputs[1])
    if not same or [scalar_of(value) for value in numbers] != [1.0, 2.0, 2.0]:
        return None
    return Mish(x, node, divisor, quotient, product, inner, e)


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
        raise PassRefusedError(f"its softplus has a beta of {'its own' if beta is None else beta}")
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
        raise PassRefusedError(
            f"its softplus is x itself from {units.plain(threshold)} on, which is not Mish below "
            f"{units.plain(_LEAST_THRESHOLD)}"
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
        raise PassRefusedError(f"{node.op_type} lacks an input")
    return value


def check(found: Mish, dtypes: Collection[ir.DataType]) -> ir.DataType:
    """Return the type of a Mish; raise PassRefusedError for another one than `dtypes`.

    Also where something else reads what is computed within, so that nothing would be removed.
    """
    dtype = found.x.dtype
    if dtype is None or dtype not in dtypes:
        shown = "unknown type" if dtype is None else _name(dtype)
        raise PassRefusedError(f"{shown}, the form is for {' and '.join(map(_name, dtypes))}")
    for node in found.nodes[1:]:
        if any(is_used_outside(value, found.nodes) for value in node.outputs):
            raise PassRefusedError(f"its {node.op_type} is used by another operator too")
    return dtype


def _name(dtype: ir.DataType) -> str:
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype.name, dtype.name.lower())

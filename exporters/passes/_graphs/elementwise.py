"""ONNX's element-wise operators as steps of a body (`bench.compiler.body`).

Formulas are those of https://onnx.ai/onnx/operators. What is computed in float16 there is computed
in float32 here, and rounded where it is stored.
"""

import math
from collections.abc import Callable, Sequence

import onnx_ir as ir

from foldbench.bench.compiler.body import BodyBuilder
from foldbench.exporters.passes._graphs.rewrite import is_op, scalar_of

Operand = int | float
"""A value of the body, or a number."""
Translation = Callable[[BodyBuilder, ir.Node, Sequence[Operand]], int]

LEAST_OPSET = 11
"""From which on Clip takes its limits as inputs; all others are older."""
_MOST_FACTORS = 4
"""Of a power that is written as products."""


class UntranslatableError(Exception):
    """An operator that has no form here, though others of its type may have one."""


def is_elementwise(node: ir.Node) -> bool:
    """Return whether `node` is an operator that `translate` knows, with one output."""
    return is_op(node, *OPERATORS) and len(node.outputs) == 1


def translate(builder: BodyBuilder, node: ir.Node, operands: Sequence[Operand]) -> int:
    """Add what `node` makes of `operands`, one for each input; return the value.

    Raises UntranslatableError for a form that is not known.
    """
    return _TRANSLATIONS[node.op_type](builder, node, operands)


def _attribute(node: ir.Node, name: str, default: float) -> float:
    return float(node.attributes.get_float(name, default))


def _direct(operation: str) -> Translation:
    return lambda b, node, x: b.apply(operation, *x)


def _many(operation: str) -> Translation:
    def fold(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
        value = _same(b, node, x)
        for other in x[1:]:
            value = b.apply(operation, value, other)
        return value

    return fold


def _swapped(operation: str) -> Translation:
    return lambda b, node, x: b.apply(operation, x[1], x[0])


def _same(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
    return b.number(x[0]) if isinstance(x[0], float) else x[0]


def _cast(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
    wanted = node.attributes.get_int("to", 0)
    if wanted == ir.DataType.FLOAT:
        return _same(b, node, x)
    if wanted == ir.DataType.FLOAT16:
        return b.apply("half", *x)
    raise UntranslatableError("a cast to another type than float32 and float16")


def _clip(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
    value = _same(b, node, x)
    for operation, limit in zip(("max", "min"), node.inputs[1:], strict=False):
        number = scalar_of(limit)
        if number is not None:
            value = b.apply(operation, value, number)
        elif limit is not None:
            raise UntranslatableError("Clip with limits that are not constant")
    return value


def _pow(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
    base, exponent = _same(b, node, x), x[1]
    if exponent == 0.5 and isinstance(exponent, float):
        return b.apply("sqrt", base)
    whole = isinstance(exponent, float) and exponent in range(1, _MOST_FACTORS + 1)
    if not whole:
        raise UntranslatableError("a power other than 0.5, 1, 2, 3 and 4")
    value = base
    for _ in range(int(exponent) - 1):
        value = b.apply("mul", value, base)
    return value


def _leaky(b: BodyBuilder, x: Operand, below: int) -> int:
    return b.apply("where", b.apply("less", x, 0.0), below, x)


def _elu(b: BodyBuilder, x: Operand, alpha: float) -> int:
    return _leaky(b, x, b.apply("mul", b.apply("expm1", x), alpha))


def _celu(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
    alpha = _attribute(node, "alpha", 1.0)
    inner = b.apply("expm1", b.apply("div", x[0], alpha))
    return _leaky(b, x[0], b.apply("mul", inner, alpha))


def _selu(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
    alpha = _attribute(node, "alpha", 1.67326319217681884765625)
    return b.apply(
        "mul", _elu(b, x[0], alpha), _attribute(node, "gamma", 1.05070102214813232421875)
    )


def _hard_sigmoid(b: BodyBuilder, x: Operand, alpha: float, beta: float) -> int:
    line = b.apply("add", b.apply("mul", x, alpha), beta)
    return b.apply("min", b.apply("max", line, 0.0), 1.0)


def _gelu(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
    if node.attributes.get_string("approximate", "none") == "tanh":
        cube = b.apply("mul", b.apply("mul", b.apply("mul", x[0], x[0]), x[0]), 0.044715)
        inner = b.apply("mul", b.apply("add", x[0], cube), math.sqrt(2 / math.pi))
        step = b.apply("tanh", inner)
    else:
        step = b.apply("erf", b.apply("mul", x[0], math.sqrt(0.5)))
    return b.apply("mul", b.apply("mul", x[0], 0.5), b.apply("add", step, 1.0))


def _swish(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
    alpha = _attribute(node, "alpha", 1.0)
    return b.apply("mul", x[0], b.apply("sigmoid", b.apply("mul", x[0], alpha)))


def _sign(b: BodyBuilder, node: ir.Node, x: Sequence[Operand]) -> int:
    below = b.apply("where", b.apply("less", x[0], 0.0), -1.0, x[0])
    return b.apply("where", b.apply("less", 0.0, x[0]), 1.0, below)


_TRANSLATIONS: dict[str, Translation] = {
    "Abs": _direct("abs"),
    "Add": _direct("add"),
    "And": _direct("and"),
    "Cast": _cast,
    "Ceil": _direct("ceil"),
    "Celu": _celu,
    "Clip": _clip,
    "Div": _direct("div"),
    "Elu": lambda b, node, x: _elu(b, x[0], _attribute(node, "alpha", 1.0)),
    "Equal": _direct("equal"),
    "Erf": _direct("erf"),
    "Exp": _direct("exp"),
    "Floor": _direct("floor"),
    "Gelu": _gelu,
    "Greater": _swapped("less"),
    "GreaterOrEqual": _swapped("less_equal"),
    "HardSigmoid": lambda b, node, x: _hard_sigmoid(
        b, x[0], _attribute(node, "alpha", 0.2), _attribute(node, "beta", 0.5)
    ),
    "HardSwish": lambda b, node, x: b.apply("mul", x[0], _hard_sigmoid(b, x[0], 1 / 6, 0.5)),
    "Identity": _same,
    "LeakyRelu": lambda b, node, x: _leaky(
        b, x[0], b.apply("mul", x[0], _attribute(node, "alpha", 0.01))
    ),
    "Less": _direct("less"),
    "LessOrEqual": _direct("less_equal"),
    "Log": _direct("log"),
    "Max": _many("max"),
    "Min": _many("min"),
    "Mish": _direct("mish"),
    "Mul": _direct("mul"),
    "Neg": _direct("neg"),
    "Not": _direct("not"),
    "Or": _direct("or"),
    "PRelu": lambda b, node, x: _leaky(b, x[0], b.apply("mul", x[0], x[1])),
    "Pow": _pow,
    "Reciprocal": lambda b, node, x: b.apply("div", 1.0, x[0]),
    "Relu": lambda b, node, x: b.apply("max", x[0], 0.0),
    "Round": _direct("rint"),
    "Selu": _selu,
    "Sigmoid": _direct("sigmoid"),
    "Sign": _sign,
    "Softplus": _direct("softplus"),
    "Softsign": lambda b, node, x: b.apply("div", x[0], b.apply("add", b.apply("abs", x[0]), 1.0)),
    "Sqrt": _direct("sqrt"),
    "Sub": _direct("sub"),
    "Sum": _many("add"),
    "Swish": _swish,
    "Tanh": _direct("tanh"),
    "ThresholdedRelu": lambda b, node, x: b.apply(
        "where", b.apply("less", _attribute(node, "alpha", 1.0), x[0]), x[0], 0.0
    ),
    "Where": _direct("where"),
    "Xor": _direct("xor"),
}
OPERATORS = frozenset(_TRANSLATIONS)
"""What `translate` knows, by the name of the operator."""

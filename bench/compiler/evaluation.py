"""What a body means: its steps in float64, held to be true within float32."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from foldbench.bench.compiler.body import NUMBER, Body

_Array = npt.NDArray[np.float64]
_Values = npt.NDArray


def evaluate(body: Body, inputs: Sequence[npt.NDArray]) -> _Array:
    """Return the result over `inputs`, in float64 and of the shape that they broadcast to.

    A result that is stored in float16 is not rounded.
    """
    laid = zip(body.inputs, inputs, strict=True)
    shape = np.broadcast_shapes(*(array.shape for given, array in laid if given.extent != "table"))
    return np.broadcast_to(evaluate_steps(body, inputs)[-1], shape).astype(np.float64)


def evaluate_steps(body: Body, inputs: Sequence[npt.NDArray]) -> list[_Values]:
    """Return each value of `body`, the inputs first: float64 or bool, and as small as can be."""
    values: list[_Values] = [array.astype(np.float64) for array in inputs]
    with np.errstate(all="ignore"):
        for step in body.steps:
            if step.operation == NUMBER:
                values.append(np.array(np.float32(step.number), np.float64))
            else:
                values.append(_FUNCTIONS[step.operation](*(values[a] for a in step.arguments)))
    return values


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: _Array) -> _Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _mish(x: _Array) -> _Array:
    """x tanh(ln(1 + e^x)); NaN at minus infinity, as in PyTorch."""
    e = np.exp(np.minimum(x, 40))
    n = e * (e + 2)
    return x * (n / (n + 2))


def _half(x: _Array) -> _Array:
    return x.astype(np.float32).astype(np.float16).astype(np.float64)


_FUNCTIONS: dict[str, Callable[..., _Values]] = {
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "erf": _erf,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "softplus": lambda x: np.logaddexp(0, x),
    "mish": _mish,
    "floor": np.floor,
    "ceil": np.ceil,
    "rint": np.rint,
    "half": _half,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
    "less": np.less,
    "less_equal": np.less_equal,
    "equal": np.equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "not": np.logical_not,
    "where": np.where,
    "lookup": lambda codes, table: table[codes.astype(np.intp)],
}

"""The steps of a body as statements that C and CUDA C share."""

from collections.abc import Iterator

import numpy as np

from foldbench.bench.compiler.body import NUMBER, Body, Step

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "less": "<",
    "less_equal": "<=",
    "equal": "==",
    "and": "&",
    "or": "|",
    "xor": "^",
}
_IN_C = {"abs": "fabsf", "sqrt": "sqrtf", "floor": "floorf", "ceil": "ceilf", "rint": "rintf"}
_TYPES = {"float": "float", "bool": "int"}


def statements(body: Body) -> Iterator[str]:
    """Yield a C statement for each step: ``float v2 = v0 + v1;``. Inputs are v0, v1 and so on."""
    numbers = {
        index: step.number
        for index, step in enumerate(body.steps, len(body.inputs))
        if step.operation == NUMBER
    }
    for index, step in enumerate(body.steps, len(body.inputs)):
        yield f"{_TYPES[body.kinds[index]]} v{index} = {_expression(step, numbers)};"


def _expression(step: Step, numbers: dict[int, float]) -> str:
    names = [f"v{argument}" for argument in step.arguments]
    name = step.operation
    if name == NUMBER:
        return _literal(step.number)
    if name in _INFIX:
        return f"{names[0]} {_INFIX[name]} {names[1]}"
    if name == "where":
        return f"{names[0]} ? {names[1]} : {names[2]}"
    if name == "neg":
        return f"-{names[0]}"
    if name == "not":
        return f"!{names[0]}"
    if name in ("min", "max"):
        return _extreme(step, names, numbers)
    return f"{_IN_C.get(name, f'fb_{name}')}({', '.join(names)})"


def _extreme(step: Step, names: list[str], numbers: dict[int, float]) -> str:
    """Return the smaller or larger of two; beside a number, one comparison keeps NaN."""
    known = [
        place for place, a in enumerate(step.arguments) if numbers.get(a, np.nan) == numbers.get(a)
    ]
    if not known:
        return f"fb_{step.operation}({names[0]}, {names[1]})"
    bound, other = names[known[0]], names[1 - known[0]]
    return f"{other} {'>' if step.operation == 'min' else '<'} {bound} ? {bound} : {other}"


def _literal(number: float) -> str:
    with np.errstate(over="ignore"):
        value = float(np.float32(number))
    if np.isnan(value):
        return "FB_NAN"
    if np.isinf(value):
        return "FB_INFINITY" if value > 0 else "-FB_INFINITY"
    return f"{value.hex()}f"

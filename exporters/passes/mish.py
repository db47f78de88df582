"""Write Mish, however it is spelled, in the form that onnxruntime computes fastest on a CPU.

onnxruntime 1.31 has no kernel for Mish on the CPU: it runs Softplus, Tanh and Mul, of which
Softplus alone takes longer than all six operators of the form used here,

    mish(x) = x tanh(ln(1 + e^x)) = x / (1 + 2 / (e^x (e^x + 2))),

which follows from tanh(ln u) = (u^2 - 1) / (u^2 + 1). It needs no clipping: where e^x overflows the
quotient is 0 and the result x, where it underflows the quotient is infinite and the result 0. Its
relative error stays within 4 units in the last place for x < 0, where forms that compute 1 - 2 / d
lose all digits. OpenVINO has a kernel for Mish, and took 6.9 ms with
this form in place of 5.3.

Found are the operator Mish and x * tanh(softplus(x)) in either order, with softplus as an operator,
as ln(1 + e^x), or as PyTorch writes it (x itself above a threshold). Not measured on a GPU, so not
on for targets other than the CPU: there the graph stays as it was exported.
"""

from functools import partial

import numpy as np
import onnx_ir as ir
from onnx import ModelProto

from foldbench.bench.records import PassReport, Target
from foldbench.exporters.passes._graphs.mish import Mish, check, match
from foldbench.exporters.passes._graphs.rewrite import (
    PassRefusedError,
    add_constant,
    opset_of,
    rewrite,
)

ERROR_BOUND = 5e-7
TARGETS = ("cpu", "host")
ONLY_FOR: Target | None = None

_MEASURED = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_LEAST_OPSET = 7
"""From which on operators broadcast as they do now."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with every Mish in float32 or float64 written as x / (1 + 2 / (e(e + 2)))."""
    how = "written as x / (1 + 2 / (e(e + 2))), e = exp(x)"
    return rewrite(model, "mish", "Mish", how, partial(_edit, {}))


_Constants = dict[ir.DataType, tuple[ir.Value, ir.Value]]
"""1 and 2 as initializers, of each type that was needed so far."""


def _edit(constants: _Constants, model: ir.Model, node: ir.Node) -> bool:
    found = match(node)
    if found is None:
        return False
    dtype = check(found, _MEASURED)
    if opset_of(model) < _LEAST_OPSET:
        raise PassRefusedError(f"opset {opset_of(model)}, the form needs {_LEAST_OPSET} or newer")
    if dtype not in constants:
        numbers = (np.array(n, dtype.numpy()) for n in (1, 2))
        one, two = (add_constant(model.graph, f"mish_{int(n)}", n) for n in numbers)
        constants[dtype] = (one, two)
    _replace(found, *constants[dtype])
    return True


def _replace(found: Mish, one: ir.Value, two: ir.Value) -> None:
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

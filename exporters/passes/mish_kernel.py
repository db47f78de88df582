"""Write Mish as one operator that goes over memory once; for this machine alone.

The six operators that the pass `mish` writes go over memory six times, which takes a fifth of the
time of a network of convolutions. A custom operator (`bench.host_files.custom_operators`) does it
in one, compiled for this processor, with what comes before and after as it was: whatever the layout
of the numbers, so that the pass `nchwc_strip` can take out the reorderings around it.

Without a C compiler nothing is changed, and the report says so. A file with the operator says in
its metadata that it needs it.
"""

import onnx_ir as ir
import onnxruntime
from onnx import ModelProto, helper

from foldbench.bench.errors import BackendError
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import custom_operator_facts
from foldbench.bench.records import PassReport
from foldbench.exporters.passes._graphs.mish import Mish, check, match
from foldbench.exporters.passes._graphs.rewrite import made_by, rewrite, scalar_of

ERROR_BOUND = 3e-7
TARGETS = ("host",)
HOST_SPECIFIC = True

_NAME = "mish_kernel"
_MEASURED = (ir.DataType.FLOAT,)
_VERSION = 1
"""Of the operators in the domain."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with every Mish in float32, also as `mish` writes it, as one operator."""
    try:
        custom_operators.library()
    except BackendError as error:
        copy = ModelProto()
        copy.CopyFrom(model)
        return copy, PassReport(name=_NAME, changed=0, detail=str(error))
    how = "as one custom operator; for this machine only"
    rewritten, report = rewrite(model, _NAME, "Mish", how, _edit)
    if report.changed:
        facts = {p.key: p.value for p in rewritten.metadata_props}
        facts |= custom_operator_facts(onnxruntime.__version__)
        helper.set_model_props(rewritten, facts)
    return rewritten, report


def _edit(model: ir.Model, node: ir.Node) -> bool:
    found = match(node) or _match_form(node)
    if found is None:
        return False
    check(found, _MEASURED)
    _replace(found)
    model.opset_imports[custom_operators.DOMAIN] = _VERSION
    return True


def _match_form(node: ir.Node) -> Mish | None:
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


def _replace(found: Mish) -> None:
    last = found.nodes[0]
    tape = ir.tape.Tape()
    y = tape.op(custom_operators.MISH, [found.x], domain=custom_operators.DOMAIN)
    y.type, y.shape = found.x.type, found.x.shape
    graph = last.graph
    assert graph is not None  # it was found in one
    ir.convenience.replace_nodes_and_values(graph, last, found.nodes, tape.nodes, last.outputs, [y])

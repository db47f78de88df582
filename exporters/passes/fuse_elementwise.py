"""Write chains of element-wise operators as one operator each; for this machine alone.

onnxruntime goes over memory once for every operator that it has not fused. A chain becomes a custom
operator that goes over it once, compiled for this processor (`bench.host_files.custom_operators`),
with what comes before and after as it was. Where all inputs have one shape, the order of elements
does not matter, so that the pass `nchwc_strip` can take out the reorderings around it.

What onnxruntime fuses itself is left to it: activations and sums in a convolution, activations in a
matrix product, constant factors in weights, GELU, Swish, HardSwish, layer normalisation, of this
version on this processor. It is asked: the operators that are still there in the graph that it
makes of the file are those that it has not fused. A chain is taken if it saves two passes or more;
fewer were not measured to help.

Without a C compiler nothing is changed, and the report says so. A file with such operators says in
its metadata what they compute.
"""

from collections.abc import Collection

import onnxruntime
from onnx import ModelProto

from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import custom_operator_facts, host_facts
from foldbench.bench.records import PassReport, Target
from foldbench.exporters.passes._graphs.fusing import Fusing, fuse

ERROR_BOUND = 3e-7
TARGETS = ("host",)
ONLY_FOR: Target | None = "host"


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with chains of element-wise operators as custom operators.

    The copy is exact where there is none. Raises what onnxruntime raises on a model that it cannot
    load.
    """
    return fuse(model, Fusing("fuse_elementwise", _require, _facts, "for this machine only"))


def _require(bodies: Collection[str]) -> None:
    custom_operators.register(onnxruntime.SessionOptions(), bodies)


def _facts(bodies: Collection[str]) -> dict[str, str]:
    return host_facts(onnxruntime.__version__) | custom_operator_facts(bodies)

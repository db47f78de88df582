"""Write chains of element-wise operators as one operator each, for NVIDIA GPUs.

The chains, and what is left to onnxruntime, are those of the pass `fuse_elementwise`: this machine
need not have a GPU, so it is onnxruntime on the CPU that is asked what it fuses itself. Where the
file is run, its formulas become CUDA C, which NVRTC compiles for the GPU at hand. On a CPU the same
formulas become C; so the file is held against float64 there as every other.

Without NVRTC or a C compiler nothing is changed, and the report says so. What it gains has not been
measured, so that it has to be asked for.
"""

from collections.abc import Collection

import onnxruntime
from onnx import ModelProto

from foldbench.bench.compiler.body import parse_body
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import custom_operator_facts
from foldbench.bench.records import PassReport, Target
from foldbench.exporters.passes._graphs.fusing import Fusing, fuse

ERROR_BOUND = 3e-7
TARGETS: tuple[Target, ...] = ()
ONLY_FOR: Target | None = "cuda"

_ARCHITECTURE = "compute_80"
"""Of the kernels that are compiled to see whether that can be done."""


def apply(model: ModelProto) -> tuple[ModelProto, PassReport]:
    """Return `model` with chains of element-wise operators as custom operators.

    The copy is exact where there is none. Raises what onnxruntime raises on a model that it cannot
    load.
    """
    made_from = "compiled by NVRTC where it is run"
    return fuse(model, Fusing("fuse_elementwise_cuda", _require, custom_operator_facts, made_from))


def _require(bodies: Collection[str]) -> None:
    custom_operators.write_cuda_source([parse_body(text) for text in bodies], _ARCHITECTURE)
    custom_operators.register(onnxruntime.SessionOptions(), bodies)

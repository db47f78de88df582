"""What onnxruntime itself makes of a graph on this machine's CPU."""

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import OPTIMIZATION
from foldbench.bench.records import PassReport
from foldbench.bench.store.temporary import temporary_folder
from foldbench.exporters.onnx_store import copy_of, is_slim
from foldbench.exporters.passes._graphs.rewrite import rewrite

BLOCKED = "com.microsoft.nchwc"
"""The domain of operators on channels in blocks."""
_SILENT = 4  # it would warn that the file is for this machine, which the file says itself


def why_not_optimised(model: ModelProto) -> str | None:
    """Return why onnxruntime cannot be asked what it makes of `model`; None where it can."""
    if any(entry.key == OPTIMIZATION for entry in model.metadata_props):
        return "the graph is optimised already"
    if is_slim(model):
        return "its weights lie beside the file, which is above 2 GiB"
    return None


def rewrite_unoptimised(
    model: ModelProto,
    name: str,
    what: str,
    how: str | Callable[[], str],
    edit: Callable[[ir.Model, ir.Node], bool],
) -> tuple[ModelProto, PassReport]:
    """Return what `rewrite` does; an exact copy where onnxruntime cannot be asked of `model`."""
    if reason := why_not_optimised(model):
        return copy_of(model), PassReport(name=name, changed=0, detail=reason)
    return rewrite(model, name, what, how, edit)


def optimise(model: ModelProto) -> ir.Model:
    """Return the graph that onnxruntime makes of `model` for this processor.

    Raises what onnxruntime raises on a model that it cannot load.
    """
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    custom_operators.register_for(settings, {p.key: p.value for p in model.metadata_props})
    with temporary_folder() as folder:
        path = folder / "optimised.onnx"
        settings.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        optimised = ir.from_proto(ModelProto.FromString(path.read_bytes()))
    used = {node.domain for node in optimised.graph.all_nodes()} | {""}
    for domain in set(optimised.opset_imports) - used:
        del optimised.opset_imports[domain]
    return optimised


@cache
def channels_in_a_block() -> int | None:
    """Return how many channels onnxruntime's convolutions take at once on this processor.

    It is asked: the narrowest groups that it takes into its own layout fill one block. None where
    it has no such layout.
    """
    for channels in (4, 8, 16, 32):
        made = optimise(_two_groups(channels))
        if any(node.domain == BLOCKED for node in made.graph):
            return channels
    return None


def _two_groups(channels: int) -> ModelProto:
    """Return a convolution of two groups with `channels` each."""
    size = [1, 2 * channels, 8, 8]
    weight = numpy_helper.from_array(np.zeros((size[1], channels, 3, 3), np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "probe", ends[:1], ends[1:], [weight])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)

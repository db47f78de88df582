"""What onnxruntime itself makes of a graph on this machine's CPU."""

import onnx_ir as ir
import onnxruntime
from onnx import ModelProto

from foldbench.bench.host_files import custom_operators
from foldbench.bench.store.temporary import temporary_folder

_SILENT = 4  # it would warn that the file is for this machine, which the file says itself


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

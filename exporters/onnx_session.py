"""An .onnx file or graph in onnxruntime on the CPU, for one that is looked at and not timed."""

from pathlib import Path
from typing import Any

from onnx import ModelProto

from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import how_to_run
from foldbench.exporters.onnx_store import weights_folder

_WEIGHTS_IN = "session.model_external_initializers_file_folder_path"
_SILENT = 4  # what onnxruntime would log on the way is raised, or seen in the answers


def open_session(
    file: bytes | Path | ModelProto, optimise: bool = True, optimised: Path | None = None
) -> Any:
    """Return an onnxruntime session on the CPU, as the file says that it is to be run.

    Without `optimise` the graph is run as it is. What onnxruntime makes of the graph is written to
    `optimised`. Raises whatever onnxruntime raises, and
    BackendError for a file that is for another machine.
    """
    import onnxruntime

    if isinstance(file, ModelProto):
        file = file.SerializeToString()
    weights_in = weights_folder()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    if weights_in is not None:
        settings.add_session_config_entry(_WEIGHTS_IN, str(weights_in))
    how = how_to_run(file, onnxruntime.__version__)
    if how.optimised or not optimise:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if how.operators is not None:
        custom_operators.register(settings, how.operators)
    if optimised is not None:
        settings.optimized_model_filepath = str(optimised)
    opened = str(file) if isinstance(file, Path) else file
    return onnxruntime.InferenceSession(opened, settings, providers=["CPUExecutionProvider"])

"""What the nodes of an exported file cost, how exact they are, and which ones onnxruntime runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from foldbench.bench.analysis.origins import GraphNode
from foldbench.bench.arrays import Floats
from foldbench.bench.errors import BenchError, ExportError, one_line, root_cause
from foldbench.bench.records import Checkpoint, Traffic
from foldbench.bench.store.temporary import temporary_folder
from foldbench.exporters.module_names import graph_nodes
from foldbench.exporters.onnx_double import run_in_evaluator, run_in_onnxruntime, to_float64
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.onnx_store import is_slim, opened_onnx

Arrays = dict[str, npt.NDArray]


@dataclass(frozen=True)
class NodeFacts:
    """What one value costs to compute, for the images that were given."""

    flops: int
    """Of convolutions and matrix products, a multiply-add counted as two; 0 for all others."""
    size_bytes: int
    """That its node reads and writes, each input, weight and output once."""
    weights: int
    """Numbers among them that are weights."""
    values: int
    """Numbers among them that are not."""


def read_nodes(path: Path) -> list[GraphNode]:
    """Return the nodes of a file; raise ExportError where it cannot be read."""
    with opened_onnx(path) as model:
        return graph_nodes(model)


def optimised_nodes(path: Path) -> list[GraphNode]:
    """Return the nodes that onnxruntime runs of a file on this CPU; it gives some no name.

    Raises ExportError where it cannot open the file.
    """
    with temporary_folder() as folder:
        written = folder / "optimised.onnx"
        try:
            open_session(path, optimised=written)
        except BenchError:
            raise
        except Exception as error:  # onnxruntime raises bare Exceptions of its own
            raise ExportError(f"onnxruntime cannot open {path.name}: {one_line(error)}") from error
        return graph_nodes(onnx.load(written, load_external_data=False))


def measure_nodes(path: Path, images: Floats) -> dict[str, NodeFacts]:
    """Return what each value of a file costs for a batch of `images` (N, C, H, W) float32."""
    with opened_onnx(path) as model:
        _refuse_slim(model, path)
        values = _run_all(model, images)
        weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        return {node.output[0]: _facts(node, values, weights) for node in model.graph.node}


def count_file(checkpoint: Checkpoint, folder: Path) -> tuple[int, Traffic]:
    """Return the operations of an .onnx file for one image, and what they read and write.

    Of its convolutions and matrix products. Raises ExportError where it cannot be run.
    """
    path = folder / checkpoint.weights
    try:
        batch = _batch_of(path)
        images = np.zeros((batch, *checkpoint.preprocessing.input_shape), np.float32)
        facts = measure_nodes(path, images).values()
    except BenchError:
        raise
    except Exception as error:  # onnxruntime raises bare Exceptions of its own
        raise ExportError(f"{checkpoint.weights} cannot be run: {one_line(error)}") from error
    heavy = [one for one in facts if one.flops]
    traffic = Traffic(
        numbers_per_call=sum(one.weights for one in heavy),
        numbers_per_image=sum(one.values for one in heavy) // batch,
    )
    return sum(one.flops for one in heavy) // batch, traffic


def _batch_of(path: Path) -> int:
    """Return the only batch size that a file takes, 1 for one that takes any."""
    with opened_onnx(path) as model:
        weights = {tensor.name for tensor in model.graph.initializer}
        (given,) = (value for value in model.graph.input if value.name not in weights)
        return given.type.tensor_type.shape.dim[0].dim_value or 1


def first_convolution(path: Path) -> tuple[str, npt.NDArray] | None:
    """Return name and weights (out, in, height, width) of a file's first convolution, if any."""
    with opened_onnx(path) as model:
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        found = (n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in weights)
        node = next(found, None)
        if node is None:
            return None
        return node.name or node.output[0], numpy_helper.to_array(weights[node.input[1]])


def measure_errors(
    path: Path, exact: Path, images: Floats, wanted: Sequence[str]
) -> dict[str, float]:
    """Return how far values of a file are from those of `exact` in float64, on `images`.

    The largest difference divided by the largest value. Of `wanted`, values that either file does
    not have are left out. Raises ExportError where there is no float64 of it.
    """
    with opened_onnx(exact) as model:
        _refuse_slim(model, exact)
        names = [name for name in wanted if name in _values_of(model)]
        try:
            doubled = to_float64(_with_outputs(model, names))
            try:
                truth = run_in_onnxruntime(doubled, names, optimise=False)(images)
            except Exception:  # it has kernels in float64 for some operators alone
                truth = run_in_evaluator(doubled, names)(images)
        except Exception as error:  # the evaluator raises whatever an operator trips over
            raise ExportError(
                f"{exact.name} cannot be run in float64: {one_line(root_cause(error))}"
            ) from error
    with opened_onnx(path) as model:
        found = _run_all(model, images, [name for name in names if name in _values_of(model)])
    return {
        name: _distance(found[name], exactly)
        for name, exactly in zip(names, truth, strict=True)
        if name in found and found[name].shape == exactly.shape and exactly.size
    }


def _distance(found: npt.NDArray, exactly: npt.NDArray) -> float:
    scale = float(np.abs(exactly).max())
    return float(np.abs(found - exactly).max()) / scale if scale else 0.0


def _values_of(model: ModelProto) -> list[str]:
    return [name for node in model.graph.node for name in node.output if name]


def _with_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Return `model` with these values as outputs, besides its own."""
    copy = ModelProto()
    copy.CopyFrom(model)
    there = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in there)
    return copy


def _run_all(model: ModelProto, images: Floats, names: Sequence[str] | None = None) -> Arrays:
    """Return the input and these values, all by default, computed in onnxruntime as they stand."""
    wanted = _values_of(model) if names is None else list(names)
    weights = {tensor.name for tensor in model.graph.initializer}
    (given,) = (value.name for value in model.graph.input if value.name not in weights)
    run = run_in_onnxruntime(_with_outputs(model, wanted), wanted, optimise=False)
    return {given: images, **dict(zip(wanted, run(images), strict=True))}


def _refuse_slim(model: ModelProto, path: Path) -> None:
    if is_slim(model):
        raise ExportError(f"{path.name} is above 2 GiB, which is not taken apart")


def _flops(node: NodeProto, values: Arrays) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    first, second = values[node.input[0]], values[node.input[1]]
    if node.op_type == "ConvTranspose":
        return int(2 * first.size * np.prod(second.shape[1:]))
    if node.op_type == "Conv":
        return int(2 * values[node.output[0]].size * np.prod(second.shape[1:]))
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return int(2 * values[node.output[0]].size * first.shape[0 if transposed else -1])


def _facts(node: NodeProto, values: Arrays, weights: Arrays) -> NodeFacts:
    touched = [name for name in (*node.input, *node.output) if name]
    held = [weights[name] for name in touched if name in weights]
    moved = [values[name] for name in touched if name in values]
    return NodeFacts(
        flops=_flops(node, {**values, **weights}),
        size_bytes=sum(array.nbytes for array in (*held, *moved)),
        weights=sum(array.size for array in held),
        values=sum(array.size for array in moved),
    )

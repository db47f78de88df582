"""What an .onnx file computes exactly: the same graph in float64, where that can be had.

In onnxruntime where it has a kernel in float64 for every operator, else in onnx's reference
evaluator, else in float32 in onnxruntime without optimisation. The answers say which.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto

from foldbench.bench.arrays import Floats
from foldbench.bench.errors import BenchError, ExportError, one_line, root_cause
from foldbench.bench.records import ParityReference
from foldbench.exporters.onnx_double import (
    Array,
    Run,
    run_in_evaluator,
    run_in_onnxruntime,
    to_float64,
)
from foldbench.exporters.onnx_store import is_slim, nodes_of, opened_onnx, tensors_of
from foldbench.exporters.parity import InputKind, ParityInput, parity_inputs, refuse_other_outputs

_COARSE_TYPES = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.UINT8)
_FAR_FROM_FLOAT32 = 0.05
_FAR_FROM_COARSE = 0.5
"""Share of the largest output by which a graph in float64 cannot differ on images from the same one
in float32, and from one in float16 or int8. The graph is taken for wrongly converted where it does.
"""


def run_reference_onnx(
    source: Path | bytes | ModelProto,
    images: Floats,
    *,
    batch: int | None = None,
    seed: int = 0,
) -> tuple[ParityInput, ...]:
    """Return inputs of every kind, and what the given file answers to them, exactly.

    `images` are preprocessed (N, C, H, W) float32; `batch` is the only batch size where the file
    takes just one. The file has one input and its first output is (N, classes). Raises ExportError
    where onnxruntime cannot run it, or it gives other outputs when asked again.
    """
    with _opened(source) as model:
        outputs = [model.graph.output[0].name]
        (inputs,) = run_references(model, images, outputs, batch=batch, seed=seed)
    return inputs


@contextmanager
def _opened(source: Path | bytes | ModelProto) -> Iterator[ModelProto]:
    if isinstance(source, Path):
        with opened_onnx(source) as model:
            yield model
    else:
        yield ModelProto.FromString(source) if isinstance(source, bytes) else source


def run_references(
    model: ModelProto,
    images: Floats,
    outputs: Sequence[str],
    *,
    batch: int | None = None,
    seed: int = 0,
) -> tuple[tuple[ParityInput, ...], ...]:
    """Return for each of `outputs` what `run_reference_onnx` does for the first."""
    names = list(outputs)
    inputs = tuple(parity_inputs(images, seed, batch))
    try:
        run = run_in_onnxruntime(model, names)
        in_float32 = [run(x) for _, x in inputs]
        again = [run(x) for _, x in inputs]
    except BenchError:
        raise
    except Exception as error:  # onnxruntime raises bare Exceptions of its own
        raise ExportError(
            f"onnxruntime cannot run the file: {one_line(root_cause(error))}"
        ) from error
    for one, other in zip(in_float32, again, strict=True):
        refuse_other_outputs(one, other, "onnxruntime")
    reference, exact = _run_exactly(model, names, inputs, in_float32)
    return tuple(
        tuple(
            ParityInput(
                kind,
                x,
                exactly[place].astype(np.float64),
                found[place].astype(np.float32),
                reference,
            )
            for (kind, x), exactly, found in zip(inputs, exact, in_float32, strict=True)
        )
        for place in range(len(names))
    )


def answer_in_float64(source: Path, batches: Sequence[Floats]) -> npt.NDArray[np.float64]:
    """Return what the first output of the file is for all `batches`, (N, C, H, W) float32 each.

    Raises ExportError where the graph cannot be had in float64.
    """
    with opened_onnx(source) as model:
        names = [model.graph.output[0].name]
        run = run_in_onnxruntime(model, names)
        inputs: list[tuple[InputKind, Floats]] = [("images", x) for x in batches]
        reference, exact = _run_exactly(model, names, inputs, [run(x) for x in batches])
    if reference == "ort_float32":
        raise ExportError(
            f"{source}: its answers cannot be computed in float64: it has operators that are none "
            "of ONNX's own, or more than 2 GB of weights"
        )
    return np.concatenate([found for (found,) in exact])


def _run_exactly(
    model: ModelProto,
    names: list[str],
    inputs: Sequence[tuple[InputKind, Floats]],
    in_float32: list[list[Array]],
) -> tuple[ParityReference, list[list[Array]]]:
    """Return the outputs for all inputs by the first way that can be had, and which one it is."""
    far = _FAR_FROM_COARSE if _is_coarse(model) else _FAR_FROM_FLOAT32
    for reference, make in _ways(model, names):
        try:
            run = make()
            found: list[list[Array]] = []
            for (kind, x), roughly in zip(inputs, in_float32, strict=True):
                found.append(run(x))
                _check(found[-1], roughly, reference, far if kind == "images" else np.inf)
        except Exception:  # a way that cannot be had; whatever it raises, the next one is tried
            continue
        return reference, found
    raise ExportError("onnxruntime cannot run the file without optimising it: export it again")


def _ways(
    model: ModelProto, names: list[str]
) -> Iterator[tuple[ParityReference, Callable[[], Run]]]:
    exact: ModelProto | None = None
    try:
        if not is_slim(model):  # in float64 it would not fit into a message
            exact = to_float64(model)
    except Exception:  # onnx raises kinds of its own for what it does not know
        pass
    if exact is not None:
        yield "ort_float64", lambda: run_in_onnxruntime(exact, names)
        yield "onnx_float64", lambda: run_in_evaluator(exact, names)
    yield "ort_float32", lambda: run_in_onnxruntime(model, names, optimise=False)


def _is_coarse(model: ModelProto) -> bool:
    """Return whether some of the graph is in float16 or int8."""
    narrow = any(tensor.data_type in _COARSE_TYPES for tensor in tensors_of(model))
    return narrow or any("Quantize" in node.op_type for node in nodes_of(model))


def _check(
    found: list[Array], roughly: list[Array], reference: ParityReference, far: float
) -> None:
    """Raise ValueError where the outputs are not in float64, or cannot be those of the graph."""
    for exact, rough in zip(found, roughly, strict=True):
        if reference.endswith("float64") and exact.dtype != np.float64:
            raise ValueError(f"an output is {exact.dtype}")
        if exact.shape != rough.shape:
            raise ValueError(f"an output is {exact.shape} and was {rough.shape}")
        finite = np.isfinite(exact) & np.isfinite(rough)
        scale = np.abs(exact[finite]).max(initial=0.0) or 1.0
        apart = np.abs(exact[finite] - rough[finite]).max(initial=0.0) / scale
        if apart > far:
            raise ValueError(f"its outputs are {apart} away from those in float32")

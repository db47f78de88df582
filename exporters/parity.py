"""Whether an .onnx file computes what the checkpoint computes.

Both the artifact and float32 torch are held against the same network run in float64, so that an
artifact is only blamed for error that float32 arithmetic does not have anyway.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from foldbench.bench.errors import ExportError, one_line
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import how_to_run
from foldbench.bench.records import Parity, ParityCase
from foldbench.exporters.folding.copying import copy_network

Floats = npt.NDArray[np.float32]
InputKind = Literal["images", "random", "extreme"]

MIN_TOLERANCE = 1e-5
"""Error allowed in any case: of the order of float32 rounding summed over a deep network."""
TORCH_ERROR_FACTOR = 10.0
"""How many times the error of float32 torch an artifact may have."""
_SILENT = 4  # what onnxruntime would log on the way is raised, or seen in the answers


def run_module(module: nn.Module, images: Floats, batch_size: int = 100) -> Floats:
    """Return the logits (N, classes) float32 of a torch module for (N, C, H, W) `images`.

    The module is given copies, since some networks change their input.
    """
    with torch.inference_mode():
        parts = [
            module(torch.tensor(images[start : start + batch_size])).numpy()
            for start in range(0, len(images), batch_size)
        ]
    return np.concatenate(parts)


@dataclass(frozen=True)
class ParityInput:
    """An input with its reference outputs."""

    kind: InputKind
    x: Floats
    """(N, C, H, W) float32."""
    reference: npt.NDArray[np.float64]
    """(N, classes): the network's output in float64."""
    reference_float32: Floats
    """(N, classes): its output in float32 in torch."""


def check_parity(onnx_bytes: bytes, module: nn.Module, images: Floats, seed: int = 0) -> Parity:
    """Run the artifact in onnxruntime and `module` in torch on the same inputs, on the CPU.

    `module` is the checkpoint's network, unfolded, float32, in eval mode; `images` are preprocessed
    test images (N, C, H, W) float32. Batch sizes 1, 3 and up to 32 differ from the traced one.
    An artifact that cannot even be loaded or run fails with the runtime's message as the reason.
    """
    return check_outputs(onnx_bytes, run_reference(module, images, seed))


def run_reference(module: nn.Module, images: Floats, seed: int = 0) -> tuple[ParityInput, ...]:
    """Return inputs of every kind with the outputs of `module`, as in `check_parity`.

    Raises ExportError when the network does not run in float64.
    """
    try:
        exact = copy_network(module)
        exact.double()
        with torch.inference_mode():
            return tuple(
                ParityInput(
                    kind=kind,
                    x=x,
                    reference=exact(torch.from_numpy(x).double()).numpy(),
                    reference_float32=run_module(module, x),
                )
                for kind, x in _inputs(images, seed)
            )
    except Exception as error:  # whatever the network's own code raises
        raise ExportError(
            f"the network does not run in float64, which exports are held against: "
            f"{one_line(error)}: let it make no tensors of a dtype of its own"
        ) from error


def check_outputs(onnx_bytes: bytes, inputs: Sequence[ParityInput]) -> Parity:
    """Return whether the artifact matches the reference in onnxruntime, on the CPU."""
    cases: list[ParityCase] = []
    try:
        session = open_session(onnx_bytes)
        (name,) = (value.name for value in session.get_inputs())
        for given in inputs:
            cases.append(_check_case(given, session.run(None, {name: given.x})[0]))
    except Exception as error:  # onnxruntime raises bare Exceptions of its own
        reason = f"onnxruntime could not run it: {one_line(error)}"
        return Parity(passed=False, reason=reason, cases=tuple(cases))
    return Parity(
        passed=all(case.passed for case in cases), reason=_reason(cases), cases=tuple(cases)
    )


def open_session(onnx_bytes: bytes) -> Any:
    """Return an onnxruntime session on the CPU, as the file says that it is to be run.

    Raises whatever onnxruntime raises, and BackendError for a file that is for another machine.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    how = how_to_run(onnx_bytes, onnxruntime.__version__)
    if how.optimised:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if how.custom_operators:
        custom_operators.register(settings)
    return onnxruntime.InferenceSession(onnx_bytes, settings, providers=["CPUExecutionProvider"])


def _inputs(images: Floats, seed: int) -> Iterator[tuple[InputKind, Floats]]:
    """Yield inputs of every kind: real, random and far outside what images can be."""
    shape = images.shape[1:]
    random = np.random.default_rng(seed).standard_normal((5, *shape)).astype(np.float32)
    for size in (1, 3, 32):
        yield "images", np.ascontiguousarray(images[:size])
    yield "random", random[:2]
    yield "random", random
    yield "extreme", np.zeros((1, *shape), np.float32)
    yield "extreme", np.stack([np.full(shape, v, np.float32) for v in (images.min(), images.max())])
    yield "extreme", random * np.float32(100)


def _check_case(given: ParityInput, candidate: Floats) -> ParityCase:
    """Return the verdict on `candidate`; overflow counts only where torch has none."""
    kind, reference, reference_float32 = given.kind, given.reference, given.reference_float32
    comparable = np.isfinite(reference) & np.isfinite(reference_float32)
    if kind == "images":
        comparable = np.ones_like(comparable)
    torch_error = _relative_error(reference, reference_float32, comparable)
    tolerance = max(MIN_TOLERANCE, TORCH_ERROR_FACTOR * torch_error)
    usable = candidate.shape == reference.shape and bool(
        np.isfinite(candidate[comparable]).all() and np.isfinite(reference[comparable]).all()
    )
    error = _relative_error(reference, candidate, comparable) if usable else None
    return ParityCase(
        inputs=kind,
        batch_size=len(reference),
        error=error,
        torch_error=torch_error,
        tolerance=tolerance,
        passed=error is not None and error <= tolerance,
    )


def _relative_error(reference: npt.NDArray, candidate: npt.NDArray, where: npt.NDArray) -> float:
    """Return max |candidate - reference| / max |reference| over the places in `where`."""
    scale = np.abs(reference[where]).max(initial=0.0) or 1.0
    return float(np.abs(reference[where] - candidate[where]).max(initial=0.0) / scale)


def _reason(cases: list[ParityCase]) -> str | None:
    failed = next((case for case in cases if not case.passed), None)
    if failed is None:
        return None
    where = f"on {failed.inputs} at batch size {failed.batch_size}"
    if failed.error is None:
        return f"wrong output shape, or outputs that are not finite, {where}"
    return (
        f"outputs are off by {failed.error:.1e} of the largest logit {where}; "
        f"allowed {failed.tolerance:.1e}"
    )

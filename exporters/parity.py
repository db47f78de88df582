"""Whether an .onnx file computes what the checkpoint computes.

Both the artifact and float32 torch are held against the same network run in float64, so that an
artifact is only blamed for error that float32 arithmetic does not have anyway.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench.errors import one_line
from bench.records import Parity, ParityCase

Floats = npt.NDArray[np.float32]
Kind = Literal["images", "random", "extreme"]

RELATIVE_FLOOR = 1e-5
"""Error allowed in any case: of the order of float32 rounding summed over a deep network."""
TORCH_ERROR_FACTOR = 10.0
"""How many times the error of float32 torch an artifact may have."""


def run_module(module: nn.Module, images: Floats, batch_size: int = 100) -> Floats:
    """Return the logits (N, classes) float32 of a torch module for (N, C, H, W) `images`."""
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(images[start : start + batch_size])).numpy()
            for start in range(0, len(images), batch_size)
        ]
    return np.concatenate(parts)


def check_parity(onnx_bytes: bytes, module: nn.Module, images: Floats, seed: int = 0) -> Parity:
    """Run the artifact in onnxruntime and `module` in torch on the same inputs, on the CPU.

    `module` is the checkpoint's network, unfolded, float32, in eval mode; `images` are preprocessed
    test images (N, C, H, W) float32. Batch sizes 1, 3 and up to 32 differ from the traced one.
    An artifact that cannot even be loaded or run fails with the runtime's words as the reason.
    """
    import onnxruntime

    cases: list[ParityCase] = []
    exact = deepcopy(module).double()
    try:
        session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
        (name,) = (value.name for value in session.get_inputs())
        for kind, x in _inputs(images, seed):
            found = session.run(None, {name: x})[0]
            with torch.inference_mode():
                truth = exact(torch.from_numpy(x).double()).numpy()
            cases.append(_judge(kind, truth, run_module(module, x), found))
    except Exception as error:  # onnxruntime raises bare Exceptions of its own
        reason = f"onnxruntime could not run it: {one_line(error)}"
        return Parity(passed=False, reason=reason, cases=tuple(cases))
    return Parity(
        passed=all(case.passed for case in cases), reason=_reason(cases), cases=tuple(cases)
    )


def _inputs(images: Floats, seed: int) -> Iterator[tuple[Kind, Floats]]:
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


def _judge(kind: Kind, truth: npt.NDArray, ours: Floats, found: Floats) -> ParityCase:
    """Return the verdict on `found`; outside real images, what torch overflows on is no fault."""
    comparable = np.isfinite(truth) & np.isfinite(ours)
    if kind == "images":
        comparable = np.ones_like(comparable)
    torch_error = _relative_error(truth, ours, comparable)
    tolerance = max(RELATIVE_FLOOR, TORCH_ERROR_FACTOR * torch_error)
    usable = found.shape == truth.shape and bool(
        np.isfinite(found[comparable]).all() and np.isfinite(truth[comparable]).all()
    )
    error = _relative_error(truth, found, comparable) if usable else None
    return ParityCase(
        inputs=kind,
        batch_size=len(truth),
        error=error,
        torch_error=torch_error,
        tolerance=tolerance,
        passed=error is not None and error <= tolerance,
    )


def _relative_error(truth: npt.NDArray, found: npt.NDArray, where: npt.NDArray) -> float:
    """Return max |found - truth| / max |truth| over the places in `where`."""
    scale = np.abs(truth[where]).max(initial=0.0) or 1.0
    return float(np.abs(truth[where] - found[where]).max(initial=0.0) / scale)


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

"""Whether an .onnx file computes what the checkpoint computes.

Both the artifact and float32 torch are held against the same network run in float64, so that an
artifact is only blamed for error that float32 arithmetic does not have anyway. A network that does
not run in float64 is held against itself in float32.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from foldbench.bench import units
from foldbench.bench.arrays import Floats
from foldbench.bench.errors import ExportError, one_line
from foldbench.bench.records import Parity, ParityCase, ParityReference
from foldbench.exporters.folding.copying import copy_network
from foldbench.exporters.onnx_session import open_session

InputKind = Literal["images", "random", "extreme"]

MIN_TOLERANCE = 1e-5
"""Error allowed in any case: of the order of float32 rounding summed over a deep network."""
TORCH_ERROR_FACTOR = 10.0
"""How many times the error of float32 torch an artifact may have."""
FLOAT32_TOLERANCE = 1e-3
"""Error allowed where the reference itself is in float32, so that torch's own is not known."""
MAX_TOLERANCE = 1e-2
"""Error that no artifact may have, whatever float32 torch has."""
OWN_ERROR_FACTOR = 1.5
"""How many times the error of an .onnx file, as it was given, one made from it may always have."""
_OF_FILES = ("ort_", "onnx_")


def run_module(module: nn.Module, images: Floats, batch_size: int = 100) -> Floats:
    """Return the logits (N, classes) float32 of a torch module for (N, C, H, W) `images`.

    The module is given copies, since some networks change their input; and its answers are copied,
    since some write each into the same place.
    """
    with torch.inference_mode():
        parts = [
            module(torch.tensor(images[start : start + batch_size])).float().numpy().copy()
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
    """(N, classes): the network's output, computed in `precision`."""
    reference_float32: Floats
    """(N, classes): its output in float32 in torch, or in onnxruntime for an .onnx file."""
    precision: ParityReference = "float64"


class Judge:
    """Says of one model after the other whether it matches the reference; knows the last verdict.

    Metadata may be added to a model that was judged.
    """

    def __init__(self, inputs: Sequence[ParityInput]) -> None:
        self._inputs = inputs
        self._last: tuple[ModelProto, Parity] | None = None

    def __call__(self, model: ModelProto) -> Parity:
        """Return what `check_outputs` does."""
        if self._last is None or self._last[0] is not model:
            self._last = model, check_outputs(model, self._inputs)
        return self._last[1]


def check_parity(onnx_bytes: bytes, module: nn.Module, images: Floats, seed: int = 0) -> Parity:
    """Run the artifact in onnxruntime and `module` in torch on the same inputs, on the CPU.

    `module` is the checkpoint's network, unfolded, float32, in eval mode; `images` are preprocessed
    test images (N, C, H, W) float32. Batch sizes 1, 3 and up to 32 differ from the traced one.
    An artifact that cannot even be loaded or run fails with the runtime's message as the reason.
    """
    return check_outputs(onnx_bytes, run_reference(module, images, seed))


def run_reference(module: nn.Module, images: Floats, seed: int = 0) -> tuple[ParityInput, ...]:
    """Return inputs of every kind with the outputs of `module`, as in `check_parity`.

    Raises ExportError when the network does not run, or gives other outputs when asked again.
    """
    inputs = tuple(parity_inputs(images, seed))
    try:
        in_float32 = [run_module(module, x) for _, x in inputs]
        again = [run_module(module, x) for _, x in inputs]
    except Exception as error:  # whatever the network's own code raises
        raise ExportError(f"the network does not run in torch: {one_line(error)}") from error
    refuse_other_outputs(in_float32, again)
    run_exactly = _in_float64(module)
    try:
        exact = [run_exactly(x) for _, x in inputs]
    except Exception:  # whatever the network's own code raises; the record says so
        exact = None
    return tuple(
        ParityInput(kind, x, found.astype(np.float64), found, "float32")
        if exact is None
        else ParityInput(kind, x, exact[number], found)
        for number, ((kind, x), found) in enumerate(zip(inputs, in_float32, strict=True))
    )


def refuse_other_outputs(
    first: Sequence[Floats], second: Sequence[Floats], where_run: str = "torch"
) -> None:
    """Raise ExportError unless both runs of the network gave the same, up to rounding."""
    for x, y in zip(first, second, strict=True):
        where = np.isfinite(x) & np.isfinite(y) if x.shape == y.shape else None
        error = np.inf if where is None else _relative_error(x, y, where)
        if error > MIN_TOLERANCE:
            raise ExportError(
                "the network gives another answer each time it is asked "
                f"({where_run} against itself, {units.error(error)} of the largest logit apart), "
                "so that no file can be held against it: switch off what is random or keeps count "
                "(dropout: training=self.training)"
            )


_FLOAT32 = (torch.float32, torch.FloatTensor, "torch.FloatTensor")


class _Float64Mode(TorchFunctionMode):
    """Has every tensor that would be made in, or cast to, float32 be in float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        given = {key: _widened(value) for key, value in (kwargs or {}).items()}
        return func(*(_widened(value) for value in args), **given)


def _widened(value: Any) -> Any:
    """Return float64 for float32, `value` for all else."""
    names_a_type = isinstance(value, torch.dtype | str | type)
    return torch.float64 if names_a_type and value in _FLOAT32 else value


def _in_float64(module: nn.Module) -> Callable[[Floats], npt.NDArray[np.float64]]:
    """Return what runs a copy of `module` in float64, with all that it makes on the way."""
    exact = copy_network(module)
    exact.double()
    for part in exact.modules():
        for name, value in vars(part).items():
            if isinstance(value, Tensor) and value.dtype is torch.float32:
                setattr(part, name, value.double())

    def run(x: Floats) -> npt.NDArray[np.float64]:
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with torch.inference_mode(), _Float64Mode():
                found = exact(torch.from_numpy(x).double()).numpy().copy()
        finally:
            torch.set_default_dtype(default)
        if found.dtype != np.float64:
            raise TypeError(f"its output is {found.dtype}")
        return found

    return run


def check_outputs(
    file: bytes | Path | ModelProto, inputs: Sequence[ParityInput], output: str | None = None
) -> Parity:
    """Return whether the artifact matches the reference in onnxruntime, on the CPU.

    `output` is the output that is looked at; the first one where it is None.
    """
    cases: list[ParityCase] = []
    try:
        session = open_session(file)
        (asked,) = session.get_inputs()
        for given in inputs:
            x = given.x.astype(input_dtype(asked.type), copy=False)
            found = session.run([output] if output else None, {asked.name: x})[0]
            cases.append(_check_case(given, found))
    except Exception as error:  # onnxruntime raises bare Exceptions of its own
        reason = f"onnxruntime could not run it: {one_line(error)}"
        return Parity(passed=False, reason=reason, cases=tuple(cases))
    return Parity(
        passed=all(case.passed for case in cases),
        reason=_reason(cases),
        cases=tuple(cases),
        reference=inputs[0].precision if inputs else "float64",
    )


def input_dtype(kind: str) -> npt.DTypeLike:
    """Return numpy's type for what onnxruntime calls ``tensor(float)`` and the like."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))


def parity_inputs(
    images: Floats, seed: int, batch: int | None = None
) -> Iterator[tuple[InputKind, Floats]]:
    """Yield inputs of every kind: real, random and far outside what images can be.

    `batch` is the only batch size, where a network takes just one.
    """
    shape = images.shape[1:]
    count = 5 if batch is None else batch
    random = np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)
    ends = [np.full(shape, v, np.float32) for v in (images.min(), images.max())]
    if batch is not None:
        yield "images", images[np.arange(batch) % len(images)]
        yield "random", random
        yield "extreme", np.zeros((batch, *shape), np.float32)
        yield "extreme", np.stack([ends[number % 2] for number in range(batch)])
        yield "extreme", random * np.float32(100)
        return
    for size in (1, 3, 32):
        yield "images", np.ascontiguousarray(images[:size])
    yield "random", random[:2]
    yield "random", random
    yield "extreme", np.zeros((1, *shape), np.float32)
    yield "extreme", np.stack(ends)
    yield "extreme", random * np.float32(100)


def _check_case(given: ParityInput, candidate: Floats) -> ParityCase:
    """Return the verdict on `candidate`; overflow counts only where torch has none."""
    kind, reference, reference_float32 = given.kind, given.reference, given.reference_float32
    comparable = np.isfinite(reference) & np.isfinite(reference_float32)
    if kind == "images":
        comparable = np.ones_like(comparable)
    torch_error = _relative_error(reference, reference_float32, comparable)
    least = MIN_TOLERANCE if given.precision.endswith("float64") else FLOAT32_TOLERANCE
    tolerance = min(max(least, TORCH_ERROR_FACTOR * torch_error), MAX_TOLERANCE)
    if given.precision.startswith(_OF_FILES):  # as it was given, a file is right by definition
        tolerance = max(tolerance, OWN_ERROR_FACTOR * torch_error)
    usable = candidate.shape == reference.shape and bool(
        np.isfinite(candidate[comparable]).all() and np.isfinite(reference[comparable]).all()
    )
    error = _relative_error(reference, candidate, comparable) if usable else None
    return ParityCase(
        inputs=kind,
        batch_size=len(given.x),
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
        f"outputs are off by {units.error(failed.error)} of the largest logit {where}; "
        f"allowed {units.error(failed.tolerance)}"
    )

"""Whether a network takes batches of any size, and how one that does not can be made to.

A batch may be fixed by the declared input, or inside: by a Reshape to a shape with the batch size
that it was exported with. Only what the network answers shows that.
"""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, numpy_helper

from foldbench.bench import units
from foldbench.bench.arrays import Floats
from foldbench.bench.errors import BenchError, ExportError, one_line
from foldbench.exporters.onnx_file import OnnxFacts
from foldbench.exporters.onnx_session import open_session
from foldbench.exporters.onnx_store import copy_of, nodes_of

INPUT, LOGITS = "input", "logits"
"""What input and output are called in a file that foldbench runs."""
BATCH = "batch"
"""What a batch of any size is called."""
_TRIED = 3
"""Another batch size than those that files are fixed to."""
_ROUNDING = {"float32": 1e-3, "float64": 1e-3}
_COARSE_ROUNDING = 2e-2
"""Difference between batch sizes that is rounding, as a share of the largest logit."""

Shape = tuple[int, int, int]


class Trial:
    """Random images, and what the file as it was given answers to them."""

    def __init__(self, model: ModelProto, facts: OnnxFacts, shape: Shape) -> None:
        """Take the given `model`; raise ExportError when onnxruntime cannot run it."""
        self._allowed = _ROUNDING.get(facts.precision, _COARSE_ROUNDING)
        size = facts.fixed_batch or 1
        count = size * -(-_TRIED // size)
        self.sizes = sorted({1, _TRIED, size})
        self._x = np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)
        try:
            session = open_session(model)
            parts = [
                session.run([facts.logits.name], {facts.input.name: _as_given(x, facts)})[0]
                for x in np.split(self._x, count // size)
            ]
        except BenchError:
            raise
        except Exception as error:  # onnxruntime raises bare Exceptions of its own
            raise ExportError(
                f"{facts.path}: onnxruntime cannot run it on ({size}, "
                f"{', '.join(map(str, shape))}): {one_line(error)}"
            ) from error
        self._answers = self._flat(facts, np.concatenate([np.asarray(part) for part in parts]))
        self.classes = self._answers.shape[1]

    def _flat(self, facts: OnnxFacts, answers: Floats) -> Floats:
        flat = answers.astype(np.float32)
        if flat.ndim > 2 and flat.shape[2:] == (1,) * (flat.ndim - 2):
            flat = flat.reshape(flat.shape[:2])
        if flat.ndim != 2 or len(flat) != len(self._x):
            raise ExportError(
                f"{facts.path}: for {len(self._x)} images its output {facts.logits.name} is "
                f"{answers.shape}, and (N, classes) is needed: name another one with --output"
            )
        return flat

    def refuse(self, model: ModelProto, sizes: Sequence[int]) -> str | None:
        """Return why `model` does not give the same answers at batches of `sizes`."""
        try:
            session = open_session(model)
        except Exception as error:  # onnxruntime raises bare Exceptions of its own
            return f"onnxruntime cannot open it: {one_line(error)}"
        for size in sizes:
            try:
                (found,) = session.run([LOGITS], {INPUT: self._x[:size]})
            except Exception as error:
                return f"at batch {size} onnxruntime says: {one_line(error)}"
            wanted = self._answers[:size]
            if found.shape != wanted.shape:
                return f"at batch {size} it gives {found.shape} in place of {wanted.shape}"
            apart = _relative(wanted, found)
            if apart > self._allowed:
                return (
                    f"at batch {size} its answers are others, by {units.error(apart)} of the "
                    "largest logit"
                )
        return None


def _as_given(x: Floats, facts: OnnxFacts) -> np.ndarray:
    """Return images (N, C, H, W) float32 in the form that the given file takes."""
    turned = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if facts.channels_last else x
    return turned.astype(facts.input.dtype)


def _relative(wanted: Floats, found: Floats) -> float:
    """Return the largest difference as a share of the largest logit; infinite for other NaNs."""
    finite = np.isfinite(wanted)
    if (finite != np.isfinite(found)).any():
        return float("inf")
    scale = np.abs(wanted[finite]).max(initial=0.0) or 1.0
    return float(np.abs(wanted[finite] - found[finite]).max(initial=0.0) / scale)


def open_batch(
    model: ModelProto, facts: OnnxFacts, trial: Trial, notes: list[str]
) -> tuple[ModelProto, int | None, str | None]:
    """Return the model with an open batch; where there is none, its batch size and why."""
    opened = _with_batch(model, BATCH)
    reason = trial.refuse(opened, trial.sizes)
    fixed = facts.fixed_batch
    if reason is None:
        if fixed is not None:
            notes.append(f"its batch is fixed to {fixed}: opened, with the same answers")
        return (model if fixed is None else opened), None, None
    baked = copy_of(opened)
    count = _open_reshapes(baked, fixed or 1)
    if count and trial.refuse(baked, trial.sizes) is None:
        notes.append(
            f"its batch is fixed to {fixed or 1}: opened, with {count} Reshape that had it baked "
            "in, with the same answers"
        )
        return baked, None, None
    kept = model if fixed is not None else _with_batch(model, 1)
    broken = trial.refuse(kept, [fixed or 1])
    if broken is not None:
        raise ExportError(f"{facts.path}: it cannot be brought into foldbench's form: {broken}")
    notes.append(f"it runs at batch size {fixed or 1} alone: {reason}")
    return kept, fixed or 1, reason


def _with_batch(model: ModelProto, batch: int | str) -> ModelProto:
    """Return a copy whose input and output have this batch, and no shapes noted inside."""
    copy = copy_of(model)
    for value in (*copy.graph.input, *copy.graph.output):
        dim = value.type.tensor_type.shape.dim[0]
        dim.Clear()
        if isinstance(batch, int):
            dim.dim_value = batch
        else:
            dim.dim_param = batch
    del copy.graph.value_info[:]
    return copy


def _open_reshapes(model: ModelProto, batch: int) -> int:
    """Let each Reshape to a constant shape that begins with `batch` keep any; return how many."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    done = 0
    for node in nodes_of(model):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if shape.size < 2 or shape[0] != batch:
            continue
        shape[0] = 0 if -1 in shape else -1
        name = f"foldbench/reshape_{done}"
        model.graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name
        done += 1
    return done

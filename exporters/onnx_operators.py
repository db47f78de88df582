"""Operators for onnx's reference evaluator in place of its own.

Convolutions and pooling run in torch, where the evaluator loops in Python; what is unusual stays
with the evaluator. Before opset 14 it takes every BatchNormalization to be in training.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_average_pool, op_conv, op_max_pool
from torch.nn import functional as F

Array = npt.NDArray[Any]


class Conv(op_conv.Conv):
    """In torch, whatever its groups, strides and padding, unless the padding is computed."""

    op_domain = ""

    def _run(self, x: Array, w: Array, b: Array | None = None, **given: Any) -> tuple[Array]:
        rank = x.ndim - 2
        pads = _pads(given, rank)
        if pads is None or not 1 <= rank <= 3:
            return tuple(super()._run(x, w, b, **given))
        compute = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        padded = F.pad(torch.tensor(x), pads)
        bias = None if b is None else torch.tensor(b)
        weight = torch.tensor(w)
        strides, dilations = _sizes(given, "strides", rank), _sizes(given, "dilations", rank)
        groups = given.get("group") or 1
        y = compute(padded, weight, bias, strides, 0, dilations, groups)  # type: ignore[operator]
        return (y.numpy(),)


class MaxPool(op_max_pool.MaxPool):
    """In torch, for images, without indices."""

    op_domain = ""

    def _run(self, x: Array, **given: Any) -> tuple[Array, ...]:
        pads = _pads(given, 2)
        if pads is None or not _is_usual(x, given) or len(self.onnx_node.output) > 1:
            return tuple(super()._run(x, **given))
        padded = F.pad(torch.tensor(x), pads, value=-np.inf)
        strides, dilations = _sizes(given, "strides", 2), _sizes(given, "dilations", 2)
        y = F.max_pool2d(padded, list(given["kernel_shape"]), strides, 0, dilations)
        return (y.numpy(),)


class AveragePool(op_average_pool.AveragePool_19):
    """In torch, for images, where every window has the same size."""

    op_domain = ""

    def _run(self, x: Array, **given: Any) -> tuple[Array, ...]:
        pads = _pads(given, 2)
        if pads is None or not _is_usual(x, given):
            return tuple(super()._run(x, **given))
        if any(pads) and not given.get("count_include_pad"):
            return tuple(super()._run(x, **given))
        if set(_sizes(given, "dilations", 2)) != {1}:
            return tuple(super()._run(x, **given))
        padded = F.pad(torch.tensor(x), pads)
        y = F.avg_pool2d(padded, list(given["kernel_shape"]), _sizes(given, "strides", 2))
        return (y.numpy(),)


class BatchNormalization(OpRun):
    """In evaluation; before opset 14 onnx's own takes it for training."""

    op_domain = ""

    def _run(self, x: Array, *given: Array, epsilon: float = 1e-5, **how: Any) -> tuple[Array]:
        if how.get("training_mode") or how.get("spatial", 1) != 1:
            raise NotImplementedError("BatchNormalization that is not for evaluation")
        sizes = (-1, *[1] * (x.ndim - 2))
        scale, shift, mean, variance = (array.reshape(sizes) for array in given)
        return (scale * (x - mean) / np.sqrt(variance + epsilon) + shift,)


OPERATORS: tuple[type[OpRun], ...] = (Conv, MaxPool, AveragePool, BatchNormalization)


def _is_usual(x: Array, given: dict[str, Any]) -> bool:
    return x.ndim == 4 and not given.get("ceil_mode")


def _sizes(given: dict[str, Any], name: str, rank: int) -> list[int]:
    return list(given.get(name) or [1] * rank)


def _pads(given: dict[str, Any], rank: int) -> list[int] | None:
    """Return the padding as torch takes it: the last dimension first; None where it is computed."""
    if (given.get("auto_pad") or "NOTSET") not in ("NOTSET", "VALID"):
        return None
    pads = list(given.get("pads") or [0] * (2 * rank))
    return [pads[side * rank + axis] for axis in reversed(range(rank)) for side in (0, 1)]

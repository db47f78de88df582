"""Muon for the weights that are matrices, AdamW for everything else, as one optimizer."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

ParameterGroup = dict[str, Any]
"""Parameters with their rate and weight decay, as torch's optimizers want them."""


_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_LEAST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Steps along a matrix's momentum, its singular values made alike.

    K. Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024, with Nesterov's
    momentum and decoupled weight decay. Steps are as large as AdamW's with the same learning rate
    (J. Liu et al., Muon is scalable for LLM training, 2025, equation 4). The same as
    `torch.optim.Muon` in float32, and its state: that one computes in bfloat16, which takes most of
    the time of a training on a CPU that has no such instructions.
    """

    def __init__(self, groups: Sequence[ParameterGroup], *, momentum: float) -> None:
        super().__init__(groups, {"momentum": momentum})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step along the gradients that are there."""
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for matrix in group["params"]:
                    if matrix.grad is not None:
                        self._move(matrix, matrix.grad, group)
        return loss

    def _move(self, matrix: Tensor, gradient: Tensor, group: ParameterGroup) -> None:
        state, rate, momentum = self.state[matrix], group["lr"], group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = orthogonalized(gradient.lerp(mean, momentum))
        matrix.mul_(1 - rate * group["weight_decay"])
        matrix.add_(update, alpha=-0.2 * math.sqrt(max(matrix.shape)) * rate)


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return (A, B) with the same singular vectors and singular values of about 0.7 to 1.2.

    Five of Jordan's quintic Newton-Schulz iterations, in the dtype of `matrix`.
    """
    a, b, c = _QUINTIC
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=_LEAST_NORM)
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


class MuonWithAdamW(torch.optim.Optimizer):
    """One optimizer out of two: groups of matrices get Muon, the others AdamW.

    A convolution's weight (O, I, h, w) is the matrix (O, I h w). One rate and one weight decay
    serve both.
    """

    def __init__(
        self,
        matrices: Sequence[ParameterGroup],
        others: Sequence[ParameterGroup],
        *,
        momentum: float,
    ) -> None:
        weights = [weight for group in matrices for weight in group["params"]]
        self._pairs = [(weight, _shared(weight)) for weight in weights]
        as_matrix = {id(weight): matrix for weight, matrix in self._pairs}
        groups = [{**g, "params": [as_matrix[id(w)] for w in g["params"]]} for g in matrices]
        self._parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(others)]
        if groups:
            self._parts.append(Muon(groups, momentum=momentum))
        super().__init__(self._groups(), {})  # the very groups: schedules change rates in place

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, the weights' own among them."""
        super().zero_grad(set_to_none)
        for weight, _ in self._pairs:
            weight.grad = None

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step of both along the gradients that are there."""
        loss = None if closure is None else closure()
        for weight, matrix in self._pairs:
            matrix.grad = None if weight.grad is None else _matrix(weight.grad, weight)
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()

    def _groups(self) -> list[ParameterGroup]:
        return [group for part in self._parts for group in part.param_groups]


def _shared(weight: Tensor) -> nn.Parameter:
    """Return `weight` as a matrix that changes it."""
    matrix = _matrix(weight.detach(), weight)
    assert matrix.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
    return nn.Parameter(matrix)


def _matrix(values: Tensor, weight: Tensor) -> Tensor:
    """Return `values`, (O, ...), as (O, rest), with columns in the order of memory of `weight`.

    So `weight` itself is not copied. Muon's step is the same in any order of columns.
    """
    if weight.ndim == 4 and not weight.is_contiguous():
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)

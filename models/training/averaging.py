"""The average of the weights over the last steps, and BatchNorm statistics that belong to it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn


class WeightAverage:
    """An exponential moving average of a module's parameters.

    At step t the average keeps the share ``min(decay, (1 + t) / (10 + t))`` of itself, so that the
    first steps count for little (the form of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._step = 0
        self._averages = [p.detach().clone() for p in model.parameters()]

    def update(self) -> None:
        """Take the parameters as they are after a step into the average."""
        self._step += 1
        kept = min(self._decay, (1 + self._step) / (10 + self._step))
        parameters = [p.detach() for p in self._model.parameters()]
        torch._foreach_lerp_(self._averages, parameters, 1 - kept)

    @contextmanager
    def in_place(self, batches: Iterable[Tensor]) -> Iterator[None]:
        """Give the module the averaged parameters for a while, and its own state back after.

        Running means and variances belong to the weights that they were taken with: those of
        BatchNorm are taken anew over `batches`, inputs of the network (P. Izmailov et al.,
        Averaging weights leads to wider optima and better generalization, 2018, section 3.2).
        """
        before = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        try:
            self.settle(batches)
            yield
        finally:
            self._model.load_state_dict(before)

    def settle(self, batches: Iterable[Tensor]) -> None:
        """Give the module the averaged parameters, with statistics of `batches`, for good."""
        with torch.no_grad():
            for parameter, average in zip(self._model.parameters(), self._averages, strict=True):
                parameter.copy_(average)
            update_bn(batches, self._model)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages and the number of steps in them."""
        return {"step": self._step, "averages": self._averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self._step = state["step"]
        for average, value in zip(self._averages, state["averages"], strict=True):
            average.copy_(value)

"""Sessions that are wrong in one way each, for `bench doctor`."""

from typing import Any

import numpy as np

from foldbench.bench.backends import Floats
from foldbench.bench.timing.simulation import FakeGpuSession


class ConstantSession:
    """A session that answers the same whatever it is asked."""

    device, runtime, threads, precision = "cpu", "constant", 1, "float32"

    def __init__(self, answer: Floats) -> None:
        self._answer = answer

    def bind(self, x: Floats) -> None:
        """Ignore it."""

    def step(self) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def output(self) -> Floats:
        """Return the answer."""
        return self._answer


class _RightAtFirst(ConstantSession):
    """A session that computes what `module` does in its first `right_calls` calls."""

    def __init__(self, module: Any, right_calls: int) -> None:
        super().__init__(np.empty((0, 0), np.float32))
        self._module = module
        self._right_calls = right_calls
        self._calls = 0

    def bind(self, x: Floats) -> None:
        """Run the module; afterwards answer as `answer_wrongly` has it."""
        import torch

        with torch.inference_mode():
            right = self._module(torch.from_numpy(x)).numpy()
        self._calls += 1
        wrong = self.answer_wrongly(right)
        self._answer = right if self._calls <= self._right_calls else wrong

    def answer_wrongly(self, right: Floats) -> Floats:
        """Return what is answered instead of `right`, both (N, classes) float32."""
        raise NotImplementedError


class LateSession(_RightAtFirst):
    """A session whose answers are ready a call too late."""

    _pending: Floats | None = None

    def answer_wrongly(self, right: Floats) -> Floats:
        """Return the answer to the call before."""
        ready, self._pending = self._pending, right
        return right if ready is None else ready


class StuckSession(_RightAtFirst):
    """A session that gives every image the answer of the first one that it was given."""

    _first: Floats | None = None

    def answer_wrongly(self, right: Floats) -> Floats:
        """Return the first answer of all, once for each image."""
        if self._first is None:
            self._first = right[:1]
        return np.repeat(self._first, len(right), axis=0)


class HastyGpuSession(FakeGpuSession):
    """A GPU whose synchronisation was forgotten: its answers are right, its times are not."""

    def synchronize(self) -> None:
        """Return at once."""

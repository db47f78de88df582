"""A network with known answers and known times, to test the harness itself."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from bench.backends import NO_OPTIONS, Floats, Format, Options, Source
from bench.errors import BackendError
from bench.records import Device

FORMAT: Format = "onnx"
OPTIONS = {"slow": "each image takes twice the time"}


class FakeClock:
    """A clock that moves only when it is told to, in seconds."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the seconds since the clock was made."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now_s += seconds


class FakeSession:
    """Answers with class ``round(first pixel) mod classes``; each step takes a known time."""

    device = "cpu"
    runtime = "fake"
    threads = 1
    precision = "float32"

    def __init__(self, step_s: Callable[[int], float], clock: FakeClock, classes: int = 10) -> None:
        self._step_s = step_s
        self._clock = clock
        self._classes = classes
        self._x: Floats | None = None
        self._y: Floats | None = None

    def bind(self, x: Floats) -> None:
        """Take (N, C, H, W) float32."""
        self._x = x

    def step(self) -> None:
        """Let the time for this batch size pass and make the answers."""
        if self._x is None:
            raise BackendError("step() before bind(): give the session an input first")
        self._clock.advance(self._step_s(len(self._x)))
        names = np.rint(self._x[:, 0, 0, 0]).astype(np.int64) % self._classes
        self._y = np.eye(self._classes, dtype=np.float32)[names]

    def synchronize(self) -> None:
        """Nothing runs behind the caller's back."""

    def output(self) -> Floats:
        """Return one-hot logits (N, classes) float32."""
        if self._y is None:
            raise BackendError("output() before step(): run the network first")
        return self._y

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._x = self._y = None


def open(
    source: Source, *, device: Device, threads: int, options: Options = NO_OPTIONS
) -> FakeSession:
    """Open a session that takes 1 ms for each image of a batch; there is no fake CUDA."""
    if device != "cpu":
        raise BackendError(f"asked for {device}, but the fake backend has only a cpu")
    image_s = 2e-3 if "slow" in options else 1e-3
    return FakeSession(lambda batch_size: image_s * batch_size, FakeClock())

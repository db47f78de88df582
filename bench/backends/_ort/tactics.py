"""Micro-batching, and sessions that choose a tactic for each batch size."""

from collections.abc import Callable, Mapping
from typing import Self

import numpy as np

from foldbench.bench.backends import Closing, Floats, Session
from foldbench.bench.errors import BackendError

WHOLE = "whole batch"
NO_SPIN_WAIT = "whole batch, no spin-wait"
_MICRO_BATCHES: Mapping[str, int] = {f"micro-batches of {size}": size for size in (8, 16, 32)}


class MicroBatchSession(Closing):
    """Runs batches larger than `size` in micro-batches, on a session of any kind.

    What one layer hands to the next is smaller then, and may stay in a cache.
    """

    def __init__(self, inner: Session, size: int) -> None:
        self._whole = inner
        self._size = size
        self._x: Floats | None = None
        self._y: Floats | None = None
        self.device, self.threads = inner.device, inner.threads
        self.precision = inner.precision
        self.runtime = f"{inner.runtime}, micro-batches of {size} images"

    def bind(self, x: Floats) -> None:
        """Take (N, C, H, W) float32."""
        self._x = x

    def step(self) -> None:
        """Run the network on each micro-batch; returns when it is done."""
        if self._x is None:
            raise BackendError("step() before bind(): give the session an input first")
        self._y = run_micro_batched(self._whole, self._x, self._size)

    def synchronize(self) -> None:
        """Nothing to wait for: each micro-batch was waited for."""

    def output(self) -> Floats:
        """Return the logits of the last step, (N, classes) float32."""
        if self._y is None:
            raise BackendError("output() before step(): run the network first")
        return self._y

    def __enter__(self) -> Self:
        self._whole.__enter__()
        return self

    def close(self) -> None:
        """Free what the session holds."""
        self._x = self._y = None
        self._whole.__exit__(None, None, None)


class TunedSession(MicroBatchSession):
    """Runs a batch of each size by the tactic selected for it; as a whole until then.

    `open_no_spin_wait` opens the network again, with threads that do not spin-wait.
    """

    def __init__(self, inner: Session, open_no_spin_wait: Callable[[], Session]) -> None:
        super().__init__(inner, 1)
        self._open_no_spin_wait = open_no_spin_wait
        self._no_spin_wait: Session | None = None
        self._chosen: dict[int, str] = {}
        self.runtime = f"{inner.runtime}, tuned for each batch size"

    def tactics(self, batch_size: int) -> tuple[str, ...]:
        """Return the names of the tactics, the whole batch first."""
        micro_batches = (tactic for tactic, size in _MICRO_BATCHES.items() if size < batch_size)
        return (WHOLE, *micro_batches, *((NO_SPIN_WAIT,) if self.threads > 1 else ()))

    def select_tactic(self, batch_size: int, tactic: str) -> None:
        """Run batches of that size by that tactic from now on."""
        if tactic not in self.tactics(batch_size):
            raise BackendError(f"there is no tactic {tactic!r} to run {batch_size} images")
        if tactic == NO_SPIN_WAIT and self._no_spin_wait is None:
            self._no_spin_wait = self._open_no_spin_wait()
        self._chosen[batch_size] = tactic

    def step(self) -> None:
        """Run the bound batch by the tactic selected for its size."""
        if self._x is None:
            raise BackendError("step() before bind(): give the session an input first")
        tactic = self._chosen.get(len(self._x), WHOLE)
        session = (
            self._no_spin_wait if tactic == NO_SPIN_WAIT and self._no_spin_wait else self._whole
        )
        self._y = run_micro_batched(session, self._x, _MICRO_BATCHES.get(tactic, len(self._x)))

    def close(self) -> None:
        """Free what the session holds."""
        if self._no_spin_wait is not None:
            self._no_spin_wait.__exit__(None, None, None)
        super().close()


def run_micro_batched(session: Session, x: Floats, size: int) -> Floats:
    """Return the logits (N, classes) of `x` (N, C, H, W), `size` images at a time."""
    if len(x) <= size:
        return _run(session, x)
    first = _run(session, x[:size])
    y: Floats = np.empty((len(x), *first.shape[1:]), first.dtype)
    y[:size] = first
    for start in range(size, len(x), size):
        y[start : start + size] = _run(session, x[start : start + size])
    return y


def _run(session: Session, x: Floats) -> Floats:
    session.bind(x)
    session.step()
    session.synchronize()
    return session.output()

"""Sessions that do not run a batch as a whole, or only where that is best."""

from collections.abc import Callable, Mapping
from typing import Self

import numpy as np

from bench.backends import Closing, Floats, Session
from bench.errors import BackendError

WHOLE = "whole batch"
ASLEEP = "whole batch, threads sleep between calls"
_PIECES: Mapping[str, int] = {f"pieces of {size}": size for size in (8, 16, 32)}


class MicroSession(Closing):
    """Runs batches larger than `size` in pieces of it, on a session of any kind.

    What one layer hands to the next is smaller then, and may stay in a cache.
    """

    def __init__(self, inner: Session, size: int) -> None:
        self._whole = inner
        self._size = size
        self._x: Floats | None = None
        self._y: Floats | None = None
        self.device, self.threads = inner.device, inner.threads
        self.precision = inner.precision
        self.runtime = f"{inner.runtime}, pieces of {size} images"

    def bind(self, x: Floats) -> None:
        """Take (N, C, H, W) float32."""
        self._x = x

    def step(self) -> None:
        """Run the network piece by piece; returns when it is done."""
        if self._x is None:
            raise BackendError("step() before bind(): give the session an input first")
        self._y = run_in_pieces(self._whole, self._x, self._size)

    def synchronize(self) -> None:
        """Nothing to wait for: each piece was waited for."""

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


class TunedSession(MicroSession):
    """Runs a batch of each size in the way that was chosen for it; as a whole until then.

    `open_asleep` opens the network once more, with threads that sleep when they have nothing to do.
    """

    def __init__(self, inner: Session, open_asleep: Callable[[], Session]) -> None:
        super().__init__(inner, 1)
        self._open_asleep = open_asleep
        self._asleep: Session | None = None
        self._chosen: dict[int, str] = {}
        self.runtime = f"{inner.runtime}, tuned for each batch size"

    def ways(self, batch_size: int) -> tuple[str, ...]:
        """Return the names of what may be faster on some machine, the whole batch first."""
        pieces = (way for way, size in _PIECES.items() if size < batch_size)
        return (WHOLE, *pieces, *((ASLEEP,) if self.threads > 1 else ()))

    def choose(self, batch_size: int, way: str) -> None:
        """Run batches of that size in that way from now on."""
        if way not in self.ways(batch_size):
            raise BackendError(f"there is no way {way!r} to run {batch_size} images")
        if way == ASLEEP and self._asleep is None:
            self._asleep = self._open_asleep()
        self._chosen[batch_size] = way

    def step(self) -> None:
        """Run the bound batch in the way that was chosen for its size."""
        if self._x is None:
            raise BackendError("step() before bind(): give the session an input first")
        way = self._chosen.get(len(self._x), WHOLE)
        session = self._asleep if way == ASLEEP and self._asleep else self._whole
        self._y = run_in_pieces(session, self._x, _PIECES.get(way, len(self._x)))

    def close(self) -> None:
        """Free what the session holds."""
        if self._asleep is not None:
            self._asleep.__exit__(None, None, None)
        super().close()


def run_in_pieces(session: Session, x: Floats, size: int) -> Floats:
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

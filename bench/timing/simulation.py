"""Sessions with known answers and a clock with known times, to check the measurement itself."""

from collections.abc import Callable

import numpy as np

from foldbench.bench.backends import Closing, Floats
from foldbench.bench.errors import BackendError


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


class FakeSession(Closing):
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
        self._work(self._step_s(len(self._x)))
        names = np.rint(self._x[:, 0, 0, 0]).astype(np.int64) % self._classes
        self._y = np.eye(self._classes, dtype=np.float32)[names]

    def synchronize(self) -> None:
        """Nothing runs behind the caller's back."""

    def output(self) -> Floats:
        """Return one-hot logits (N, classes) float32."""
        if self._y is None:
            raise BackendError("output() before step(): run the network first")
        return self._y

    def _work(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def close(self) -> None:
        """Free what the session holds."""
        self._x = self._y = None


class FakeGpuSession(FakeSession):
    """The same on a GPU that works by itself: steps are only begun, and transfers take their time.

    ``transfer_s`` is what bringing a batch there takes, and fetching its answers as well;
    ``launch_s`` is what beginning a step takes of the caller's time.
    """

    device = "cuda:0"

    def __init__(
        self,
        step_s: Callable[[int], float],
        clock: FakeClock,
        transfer_s: float,
        launch_s: float = 0.0,
    ) -> None:
        super().__init__(step_s, clock)
        self._transfer_s = transfer_s
        self._launch_s = launch_s
        self._busy_until_s = 0.0

    def bind(self, x: Floats) -> None:
        """Take (N, C, H, W) float32; returns when it is on the device."""
        super().bind(x)
        self._clock.advance(self._transfer_s)

    def place(self, x: Floats) -> None:
        """Do as bind(): every answer stays on this device until it is fetched."""
        self.bind(x)

    def synchronize(self) -> None:
        """Wait until all work is done."""
        self._clock.now_s = max(self._clock.now_s, self._busy_until_s)

    def output(self) -> Floats:
        """Wait for the answers and fetch them: one-hot logits (N, classes) float32."""
        answers = super().output()
        FakeGpuSession.synchronize(self)  # one that forgets to synchronise waits here at last
        self._clock.advance(self._transfer_s)
        return answers

    def _work(self, seconds: float) -> None:
        self._clock.advance(self._launch_s)
        self._busy_until_s = max(self._clock.now_s, self._busy_until_s) + seconds

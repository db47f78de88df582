"""One process for one contender, from the parent's side.

Idle thread pools of one runtime slow another one down, and a crash takes the process along, so no
two contenders share one. The parent lets one worker at a time do something.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from foldbench.bench.backends import Floats
from foldbench.bench.errors import BackendError
from foldbench.bench.records import Boundary, OperatorTime, ScenarioResult
from foldbench.bench.timing.loop import BlockOptions, WarmUp
from foldbench.bench.timing.scenarios import ScenarioOptions
from foldbench.bench.workers.protocol import Failure, Job, Opened, TimedBlock
from foldbench.bench.workers.server import serve


class WorkerClient:
    """The client: a live process that answers one request at a time.

    Raises BackendError when the operating system gives no process or no pipe to it.
    """

    def __init__(self, job: Job) -> None:
        context = get_context("spawn")
        try:
            self._connection, sender = context.Pipe()
        except OSError as error:
            raise _cannot_start(error) from error
        self._process = context.Process(target=serve, args=(sender, job), daemon=True)
        try:
            with _interrupts_held():
                self._process.start()
        except OSError as error:
            self._connection.close()
            raise _cannot_start(error) from error
        finally:
            sender.close()

    @property
    def process_id(self) -> int | None:
        """The process that does the work."""
        return self._process.pid

    def open(self) -> Opened:
        """Have it open the network; raise BackendError with the reason when it cannot."""
        return self._ask("open")

    def evaluate(self) -> Floats:
        """Return its logits (N, classes) float32 for all images."""
        return self._ask("evaluate")

    def expect(self, logits: Floats) -> None:
        """Tell it what timed outputs have to be, instead of having it evaluate."""
        self._ask("expect", logits)

    def warm_up(self, batch_size: int, least_s: float, boundary: Boundary = "host") -> WarmUp:
        """Have it make untimed calls until the times settle."""
        return self._ask("warm_up", batch_size, least_s, boundary)

    def time(self, batch_size: int, options: BlockOptions) -> TimedBlock:
        """Have it time one block of calls at `batch_size`."""
        return self._ask("time", batch_size, options)

    def run_scenario(self, options: ScenarioOptions) -> ScenarioResult:
        """Have LoadGen drive it; whatever hangs is killed and becomes a BackendError."""
        return self._ask("run_scenario", options, timeout_s=options.timeout_s)

    def memory(self) -> int | None:
        """Return the largest resident set of the process so far, bytes; None where unknown."""
        return self._ask("memory")

    def profile(self, batch_size: int, runs: int) -> tuple[OperatorTime, ...]:
        """Have it run the network under its runtime's own profiler."""
        return self._ask("profile", batch_size, runs)

    def close(self) -> None:
        """End the process, gently if it still listens."""
        self._connection.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, request: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        try:
            self._connection.send((request, *arguments))
            if timeout_s is not None and not self._connection.poll(timeout_s):
                self._process.kill()
                raise BackendError(f"did not end within {timeout_s:g} s: its process was killed")
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise BackendError(self._cause_of_death()) from None
        if isinstance(answer, Failure):
            raise BackendError(answer.reason)
        return answer

    def _cause_of_death(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ": out of memory?" if -code == signal.SIGKILL else ""
            return f"its process was ended by {name}{hint}"
        return f"its process ended by itself (exit code {code})"


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold SIGINT back: a process that is started inherits that, and never has a traceback of it.

    The parent alone decides what an interrupt means.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cannot_start(error: OSError) -> BackendError:
    return BackendError(f"its process could not be started: {error.strerror or error}")

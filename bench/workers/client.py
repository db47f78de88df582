"""One process for one contender, from the parent's side.

Idle thread pools of one runtime slow another one down, and a crash takes the process along, so no
two contenders share one. The parent lets one worker at a time do something.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from foldbench.bench import units
from foldbench.bench.errors import BackendError
from foldbench.bench.samples.scenarios import ScenarioResult
from foldbench.bench.timing.scenarios import ScenarioOptions
from foldbench.bench.workers.protocol import Failure, Job
from foldbench.bench.workers.server import WorkerServer, serve

if TYPE_CHECKING:  # what is forwarded has the types of what answers it
    _Requests = WorkerServer
else:
    _Requests = object


class WorkerClient(_Requests):
    """The client: a live process that answers one request at a time, as `WorkerServer` has them.

    Raises BackendError when the operating system gives no process or no pipe to it, and for
    whatever a request raises there.
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

    def __getattr__(self, request: str) -> Callable[..., Any]:
        """Return a request of the server's, to be sent to the process."""
        if request.startswith("_") or not hasattr(WorkerServer, request):
            raise AttributeError(f"a worker answers no request {request!r}")
        return partial(self._ask, request)

    def run_scenario(self, options: ScenarioOptions) -> ScenarioResult:
        """Have LoadGen drive it; whatever hangs is killed and becomes a BackendError."""
        return self._ask("run_scenario", options, timeout_s=options.timeout_s)

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
                raise BackendError(
                    f"did not end within {units.plain(timeout_s)} s: its process was killed"
                )
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

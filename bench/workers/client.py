"""One process for one contender, from the parent's side.

Idle thread pools of one runtime slow another one down, and a crash takes the process along, so no
two contenders share one. The parent lets one worker at a time do something, and has the others
stopped meanwhile: a thread pool spins for up to a tenth of a second after its last call.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from foldbench.bench import units
from foldbench.bench.errors import BackendError
from foldbench.bench.samples.scenarios import ScenarioResult
from foldbench.bench.timing.scenarios import ScenarioOptions
from foldbench.bench.workers.protocol import Failure, Job
from foldbench.bench.workers.server import WorkerServer, serve
from foldbench.bench.workers.starting import start

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
        self._process = start(serve, job, python=job.python)

    @property
    def process_id(self) -> int | None:
        """The process that does the work."""
        return self._process.process_id

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
        self._process.close()

    def _ask(self, request: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        try:
            self._process.resume()
            self._process.connection.send((request, *arguments))
            if timeout_s is not None and not self._process.connection.poll(timeout_s):
                self._process.kill()
                raise BackendError(
                    f"did not end within {units.plain(timeout_s)} s: its process was killed"
                )
            answer = self._process.connection.recv()
            self._process.pause()
        except (EOFError, OSError):
            raise BackendError(self._process.cause_of_death()) from None
        if isinstance(answer, Failure):
            raise BackendError(answer.reason)
        return answer

"""What a process that `starting` started does first: the standard library alone is loaded here."""

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import connection as pipes
from typing import Any

from foldbench.bench.errors import one_line
from foldbench.bench.library_logs import log_in_one_line
from foldbench.bench.privacy import protect
from foldbench.bench.user_code.memory import hold
from foldbench.bench.workers.protocol import Failure

_GRACE_S = 3.0
"""How long what is being done may last once the parent has gone."""


def main(handle: int) -> None:
    """Call what the first messages ask for; `handle` is that of the inherited end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    sys.argv[:] = [""]
    protect()
    log_in_one_line()
    _print_on_stderr()
    connection = _open(handle)
    _wake_with_parent(handle)
    _end_with_parent(handle)
    try:
        path, held = connection.recv()
        sys.path[:] = sys.path if path is None else path
        hold(held)
        function, arguments = connection.recv()
    except (EOFError, OSError):
        return  # the parent has gone
    except Exception as error:
        _send_failure(connection, error)
        sys.exit(1)
    try:
        function(connection, *arguments)
    except Exception as error:
        _send_failure(connection, error)
        sys.exit(1)


def _open(handle: int) -> Any:
    kind = "PipeConnection" if sys.platform == "win32" else "Connection"
    return getattr(pipes, kind)(handle)


def _print_on_stderr() -> None:
    """Keep whatever a runtime or the user's code prints out of the parent's output."""
    try:
        os.dup2(2, 1)
    except OSError:  # stderr is closed
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


def _send_failure(connection: Any, error: Exception) -> None:
    with suppress(OSError):  # the parent has gone
        connection.send(Failure(f"{type(error).__name__}: {one_line(error)}"))


def _wake_with_parent(handle: int) -> None:
    """Have Linux continue this process, where it is stopped, when its parent hangs up."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # then the rule for orphaned process groups alone does that
            fcntl.fcntl(handle, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGCONT)
            flags = fcntl.fcntl(handle, fcntl.F_GETFL)
            fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_ASYNC)


def _end_with_parent(handle: int) -> None:
    """Have the process end soon after its parent hung up, whatever it is doing.

    The thread sleeps in the kernel until then, and takes no time from what is measured.
    """
    if not hasattr(select, "poll"):
        return

    def watch() -> None:
        waiting = select.poll()
        waiting.register(handle, 0)  # that the other end was closed is reported unasked
        while not waiting.poll():
            pass
        time.sleep(_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name="foldbench-parent", daemon=True).start()

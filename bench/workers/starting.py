"""Start a process that runs a function of foldbench's: the one place that does.

The process is ``python -c`` with a line that loads foldbench from the folder that this process has
it from, and then `foldbench.bench.workers.child`; a pipe is all that it inherits, and what it is to
do is the first message. The other ways were tried before, or do not do:

- multiprocessing's spawn imports the script of the parent again. One that calls `compare` without
  ``if __name__ == "__main__"`` starts a comparison in each worker, and there is no such script at
  all in a notebook or on stdin.
- fork copies the thread pools and CUDA contexts of a process that has computed, and they hang.
- forkserver imports the script, too.
- ``python -m foldbench...`` needs foldbench on the path of whatever starts, which in a repository
  is the current folder, and that folder's other modules with it.

A process that is started here imports nothing from the current directory before what is installed,
prints nothing on stdout, shows no traceback, has no stdin, leaves interrupts to its parent and ends
when its parent is gone.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import dumps
from typing import Any

import foldbench
from foldbench.bench.errors import BackendError
from foldbench.bench.user_code.memory import held
from foldbench.bench.workers.protocol import Failure

_BOOT = (
    "import sys; from importlib.util import module_from_spec, spec_from_file_location; "
    "spec = spec_from_file_location('foldbench', sys.argv[1]); "
    "sys.modules['foldbench'] = foldbench = module_from_spec(spec); "
    "spec.loader.exec_module(foldbench); "
    "from foldbench.bench.workers.child import main; main(int(sys.argv[2]))"
)
_END_S = 5.0
_SPIN_S = 0.1
"""How long a thread pool may wait for work on its CPU."""


class StartedProcess:
    """A process that runs one function, and the pipe to it."""

    def __init__(self, process: "subprocess.Popen[bytes]", connection: Connection) -> None:
        self._process = process
        self.connection = connection
        """What the function was given the other end of."""

    @property
    def process_id(self) -> int:
        """Of the process."""
        return self._process.pid

    def join(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end; return the exit code, None where it still runs after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def pause(self) -> None:
        """Stop all its threads until `resume`; they continue, too, when this process has ended.

        Elsewhere than on Linux nothing would wake it up then: wait until its threads are idle.
        """
        if sys.platform == "linux":
            self._process.send_signal(signal.SIGSTOP)
        else:
            time.sleep(_SPIN_S)

    def resume(self) -> None:
        """Let it run."""
        if sys.platform == "linux":
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self, timeout_s: float = _END_S) -> None:
        """Hang up; end it if it has not ended by itself within `timeout_s`."""
        self.connection.close()
        self.resume()
        try:
            if self.join(timeout_s) is None:
                self.kill()
        except KeyboardInterrupt:
            self.kill()
            raise
        finally:
            self.join(_END_S)

    def cause_of_death(self) -> str:
        """Say why the process that hung up has ended, as the end of a sentence."""
        code = self.join(_END_S)
        if (reason := self._last_words()) is not None:
            return reason
        if code is not None and code < 0:
            names = {number.value: number.name for number in signal.Signals}
            hint = ": out of memory?" if -code == signal.SIGKILL else ""
            return f"its process was ended by {names.get(-code, f'signal {-code}')}{hint}"
        return f"its process ended by itself (exit code {code})"

    def _last_words(self) -> str | None:
        try:
            last = self.connection.recv() if self.connection.poll() else None
        except (EOFError, OSError):
            return None
        return last.reason if isinstance(last, Failure) else None


def start(
    function: Callable[..., None], *arguments: Any, python: Path | None = None
) -> StartedProcess:
    """Start a process that calls ``function(connection, *arguments)``.

    `python` is the interpreter of another environment, whose packages it has in place of these.

    `function` is found there by its module and name; the arguments are pickled. An exception
    arrives here as a `Failure`. Raises BackendError where the system gives no process or no pipe.
    """
    connection = None
    try:
        connection, theirs = Pipe()
        try:
            process = _popen(theirs, python)
        finally:
            theirs.close()
    except OSError as error:
        if connection is not None:
            connection.close()
        raise BackendError(
            f"its process could not be started: {error.strerror or error}"
        ) from error
    started = StartedProcess(process, connection)
    try:
        connection.send((_path(), held()) if python is None else (None, {}))
        connection.send_bytes(dumps((function, arguments)))  # send() would share tensors
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has died already; whoever asks it for something is told
    except BaseException:
        started.kill()
        started.close()
        raise
    return started


def _popen(theirs: Connection, python: Path | None) -> "subprocess.Popen[bytes]":
    executable = str(python) if python else sys.executable
    if not executable:
        raise OSError("this Python does not know its own interpreter (sys.executable)")
    environment = dict(os.environ)
    if python is not None:
        environment.pop("PYTHONPATH", None)
        environment["PYTHONNOUSERSITE"] = "1"
    inherited: dict[str, Any] = {"pass_fds": (theirs.fileno(),)}
    if sys.platform == "win32":
        os.set_handle_inheritable(theirs.fileno(), True)
        about = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [theirs.fileno()]})
        inherited = {"startupinfo": about, "close_fds": False}
        # python.exe of a virtual environment starts another one, which inherits nothing
        environment["__PYVENV_LAUNCHER__"] = executable
        if python is None:
            executable = getattr(sys, "_base_executable", executable)
    flags = getattr(subprocess, "_args_from_interpreter_flags")()  # noqa: B009
    here = os.path.abspath(foldbench.__file__)
    command = [executable, *flags, "-P", "-c", _BOOT, here, str(theirs.fileno())]
    with _interrupts_held():
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, **inherited)


def _path() -> list[str]:
    """Return `sys.path` for the new process: this one's, the current directory not first.

    Where the user's script or session has its folder first on the path, that comes last.
    """
    asked = {os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p}
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    places = {os.path.abspath(os.path.dirname(main))} if isinstance(main, str) else set()
    path = [os.path.abspath(place) for place in sys.path if isinstance(place, str)]
    if not sys.flags.safe_path and path and path[0] in (places | {_current()}) - asked:
        path = path[1:] + path[:1]
    return list(dict.fromkeys(path))


def _current() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


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

"""One call in a process of its own: what runs the user's code, and may crash, exit or hang.

What it does to its process (threads, flags, hooks, the environment, a working directory) ends with
it, and a crash is an error of one line here.
"""

import logging
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pickle import dumps
from typing import Any, TypeVar

from foldbench.bench.errors import BackendError, BenchError, one_line
from foldbench.bench.progress import NullListener, ProgressListener
from foldbench.bench.workers.protocol import Failure
from foldbench.bench.workers.starting import StartedProcess, start

R = TypeVar("R")

_log = logging.getLogger("foldbench")


@dataclass(frozen=True)
class _Told:
    """What the listener or the log is to hear."""

    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class _Returned:
    value: Any


@dataclass(frozen=True)
class _Raised:
    error: Exception
    traceback: str


class _RemoteTracebackError(Exception):
    """The traceback of the other process, as the cause of the error that it is of."""

    def __str__(self) -> str:
        return f"in the process of its own\n{self.args[0]}"


def run_isolated(
    function: Callable[..., R],
    *arguments: Any,
    listener: ProgressListener | None = None,
    **named: Any,
) -> R:
    """Return what ``function(*arguments, **named)`` returns in a process of its own.

    `function` is one of a module of foldbench's; what it is given and returns is pickled, and has
    no types of the user's code. With `listener`, the function is given a `listener`, too, whose
    progress and notes are heard by that one; what it logs is logged here.

    Raises what the function raises: a BenchError of the same kind and text, MemoryError, OSError,
    RuntimeError for any other. Raises BackendError, which says why, when the process ends without
    an answer: a crash, ``os._exit``, ``sys.exit``, no memory left.
    """
    process = start(_answer, listener is not None, function, arguments, named)
    try:
        return _wait(process, listener or NullListener())
    except BaseException:
        process.kill()
        raise
    finally:
        process.close()


_LOOK_UP_S = 0.5


def _wait(process: StartedProcess, listener: ProgressListener) -> Any:
    while True:
        try:
            while not process.connection.poll(_LOOK_UP_S):
                pass  # an interrupt that another thread was given is seen between two looks
            answer = process.connection.recv()
        except (EOFError, OSError):
            raise BackendError(process.cause_of_death()) from None
        if isinstance(answer, _Returned):
            return answer.value
        if isinstance(answer, Failure):
            raise BackendError(answer.reason)
        if isinstance(answer, _Raised):
            foreseen = isinstance(answer.error, BenchError)
            raise answer.error from None if foreseen else _RemoteTracebackError(answer.traceback)
        heard = _log.log if answer.method == "log" else getattr(listener, answer.method)
        heard(*answer.arguments)


def _answer(
    connection: Connection,
    with_listener: bool,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    named: dict[str, Any],
) -> None:
    """Make the call in the process of its own."""
    line = _Line(connection)
    _log.addHandler(_Handler(line))
    _log.propagate = False
    if with_listener:
        named["listener"] = _Teller(line)
    try:
        line.send(_Returned(function(*arguments, **named)))
    except BaseException as error:
        line.send(_Raised(_as_sent(error), "".join(traceback.format_exception(error))))


def _as_sent(error: BaseException) -> Exception:
    """Return what of the error can be built again without any of the user's types."""
    if isinstance(error, BenchError):
        ours = (kind for kind in type(error).__mro__ if kind.__module__.startswith("foldbench."))
        return next(ours, BenchError)(str(error))
    if isinstance(error, MemoryError):
        return MemoryError()
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return OSError(error.errno, str(error.strerror), error.filename and str(error.filename))
    if isinstance(error, SystemExit):
        return BackendError(f"the code ended its process (exit code {one_line(error)})")
    return RuntimeError(f"{type(error).__name__}: {one_line(error)}")


class _Line:
    """The pipe to the parent, for any thread; what cannot be pickled is an error of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Any) -> None:
        """Send it; the process ends where the parent has gone."""
        content = dumps(message)
        try:
            with self._lock:
                self._connection.send_bytes(content)
        except OSError:
            os._exit(1)


class _Teller:
    """A listener whose parent hears everything."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def note(self, text: str) -> None:
        """Pass it on."""
        self._line.send(_Told("note", (text,)))

    def begin(self, title: str, total: int) -> None:
        """Pass it on."""
        self._line.send(_Told("begin", (title, total)))

    def advance(self, done: int, text: str = "") -> None:
        """Pass it on."""
        self._line.send(_Told("advance", (done, text)))

    def end(self, text: str = "") -> None:
        """Pass it on."""
        self._line.send(_Told("end", (text,)))


class _Handler(logging.Handler):
    """Passes on what foldbench logs."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """Pass it on."""
        self._line.send(_Told("log", (record.levelno, "%s", record.getMessage())))

"""Processes that start with torch loaded, for tests that are not about how processes start.

A process of foldbench's takes three seconds of CPU to load torch and onnxruntime, and hundreds of
them start in the tests. A server loads both once, has no second thread and computes nothing, and
each process that `warm_starts` gives is a fork of it that continues as `bench.workers.starting` has
it, or ``python -m foldbench``: with the same function or arguments, path, environment, folder,
output and pipe, and with the same end. How processes really start is tested in tests/bench/workers,
and where a test starts them itself.
"""

import array
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from filelock import FileLock

from foldbench.bench.workers import starting

HERE = Path(__file__).parent
AVAILABLE = sys.platform == "linux"
MODULES = (
    *("torch", "onnx", "onnxruntime", "onnxscript"),
    *("foldbench.bench.stages.add", "foldbench.bench.stages.compare"),
    *("foldbench.bench.stages.export", "foldbench.bench.workers.server"),
    *("foldbench.bench.cli", "foldbench.bench.stages.train", "foldbench.models.training.loop"),
    *("foldbench.exporters.onnx_export", "foldbench.models.building.adding", "sklearn.datasets"),
)
"""What the server loads; a fork has it, whether its function needs it or not."""

_STATUS = struct.Struct("q")
_LATEST = 60.0


class WarmProcess:
    """What `subprocess.Popen` is to `StartedProcess`, for a fork of the server."""

    def __init__(self, line: socket.socket, arguments: list[str]) -> None:
        self._line = line
        self.args = arguments
        self.returncode: int | None = None
        self.pid = self._read(_LATEST)

    def _read(self, timeout_s: float | None) -> int:
        self._line.settimeout(timeout_s)
        content = self._line.recv(_STATUS.size, socket.MSG_WAITALL)
        if len(content) != _STATUS.size:
            raise OSError("the server of processes has gone")
        return int(_STATUS.unpack(content)[0])

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raise TimeoutExpired where it runs on."""
        if self.returncode is None:
            try:
                self.returncode = self._read(timeout)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self._line.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, None where it runs on."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send it one, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start_bench(address: str, folder: Path, *arguments: str, **environment: str) -> WarmProcess:
    """Start ``python -m foldbench``, whose stdout and stderr are files in a folder.

    `environment` is added to that of this process.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "stdout").open("w") as stdout, (folder / "stderr").open("w") as stderr:
        return _request(address, [stdout.fileno(), stderr.fileno()], *arguments, **environment)


def _request(address: str, files: list[int], *arguments: str, **environment: str) -> WarmProcess:
    """Ask for a fork; `files` are the pipe of a function, none for a command, stdout and stderr."""
    request = {
        "arguments": arguments,
        "environment": {**os.environ, **environment},
        "folder": os.getcwd(),
        "cores": sorted(os.sched_getaffinity(0)),
        "warnings": sys.warnoptions,
    }
    content = json.dumps(request, ensure_ascii=True).encode()
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(_LATEST)
    line.connect(address)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
    line.sendmsg([_STATUS.pack(len(content))], rights)
    line.sendall(content)
    return WarmProcess(line, ["a fork of the server of processes"])


def use(address: Callable[[], str]) -> Any:
    """Have this process, and all that it starts, start processes by the server at an address."""
    before = starting._popen

    def request(theirs: Connection, python: Path | None) -> Any:
        return before(theirs, python) if python else _request(address(), [theirs.fileno(), 1, 2])

    starting._popen = request
    return before


def forget(before: Any) -> None:
    """Take back `use`."""
    starting._popen = before


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Have a server run, one for all that name the same `folder`; give its address.

    It ends when the last of them has.
    """
    known = folder / "warm-server"
    with FileLock(folder / "warm-server.lock"):
        if not known.exists() or not os.path.exists(known.read_text(encoding="utf-8")):
            known.write_text(_start_server(), encoding="utf-8")
        address = known.read_text(encoding="utf-8")
        lease = socket.socket(socket.AF_UNIX)
        lease.connect(address)
        lease.sendall(_STATUS.pack(0))
    try:
        yield address
    finally:
        with FileLock(folder / "warm-server.lock"):
            lease.settimeout(_LATEST)
            lease.shutdown(socket.SHUT_WR)
            if lease.recv(1) == b"":  # it was the last
                known.unlink(missing_ok=True)
            lease.close()


def _start_server() -> str:
    address = os.path.join(tempfile.mkdtemp(prefix="warm-"), "line")
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"sys.path.append({str(HERE)!r}); import warm_starts; warm_starts.serve({address!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # no threads at import
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return address


def serve(address: str) -> None:
    """Load the modules, and fork for whoever connects, until nothing has a lease any more."""
    from importlib import import_module

    from foldbench.bench.privacy import protect

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    protect()
    for name in MODULES:
        import_module(name)
    _read_translations()
    use(lambda: address)
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lack the other threads"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)  # noqa: T201
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        _Forks(selector, listener).run()
    shutil.rmtree(os.path.dirname(address), ignore_errors=True)
    os._exit(0)  # without the seconds that torch takes to end


class _Forks:
    """The loop of the server: leases, requests, and the ends of what was forked."""

    def __init__(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        self._selector = selector
        self._listener = listener
        self._running: dict[int, socket.socket] = {}
        self._leases: set[socket.socket] = set()
        self._has_begun = False

    def run(self) -> None:
        """Answer until the last lease has ended."""
        while self._leases or not self._has_begun:
            for key, _ in self._selector.select(0.01 if self._running else None):
                if key.fileobj is self._listener:
                    self._answer(self._listener.accept()[0])
                else:
                    self._end_lease(key.fileobj)  # type: ignore[arg-type]
            self._reap()

    def _answer(self, line: socket.socket) -> None:
        head, files, _, _ = socket.recv_fds(line, _STATUS.size, 3)
        (length,) = _STATUS.unpack(head)
        if not length:
            self._has_begun = True
            self._leases.add(line)
            self._selector.register(line, selectors.EVENT_READ)
            return
        request = json.loads(line.recv(length, socket.MSG_WAITALL))
        pid = os.fork()
        if pid == 0:
            self._selector.close()
            for other in (self._listener, line, *self._running.values(), *self._leases):
                other.close()
            _become(request, files)
        for file in files:
            os.close(file)
        self._running[pid] = line
        with suppress(OSError):
            line.sendall(_STATUS.pack(pid))

    def _end_lease(self, line: socket.socket) -> None:
        self._selector.unregister(line)
        self._leases.discard(line)
        with suppress(OSError):  # it has been killed
            line.sendall(b"" if not self._leases else b"more")
        line.close()

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._running.pop(pid) as line, suppress(OSError):
                line.sendall(_STATUS.pack(os.waitstatus_to_exitcode(status)))


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Be the process that was asked for; never return."""
    code = 1
    try:
        *pipe, stdout, stderr = files
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.sched_setaffinity(0, request["cores"])
        sys.warnoptions[:] = request["warnings"]
        tempfile.tempdir = None  # the environment may name another
        _continue(pipe, request["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _continue(pipe: list[int], arguments: list[str]) -> None:
    if pipe:
        from foldbench.bench.workers.child import main

        main(*pipe)
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv[1:] = arguments
        runpy.run_module("foldbench", run_name="__main__", alter_sys=True)


def _read_translations() -> None:
    """Have exports of the forks take copies of torch's translations to ONNX, read here."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    from translations import read_once

    read_once()
    ONNXRegistry.from_torchlib(20)  # the default of `bench export`

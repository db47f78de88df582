"""What tests have done in a process of its own: importable there, and quick to import."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from foldbench.bench.errors import DataError
from foldbench.bench.progress import ProgressListener


class OwnDataError(DataError):
    """A kind that the parent may not have."""


def describe(connection: Connection) -> None:
    """Send what the process is like."""
    connection.send(
        {
            "path": sys.path,
            "arguments": sys.argv,
            "safe": sys.flags.safe_path,
            "isolated": sys.flags.isolated,
            "warnings": sys.warnoptions,
            "interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
            "main": getattr(sys.modules["__main__"], "__file__", None),
            "stdin": sys.stdin.read(),
        }
    )


def sleep(connection: Connection) -> None:
    """Never end by itself."""
    connection.send(os.getpid())
    time.sleep(600)


def stumble(connection: Connection, text: str) -> None:
    """Raise what is not foldbench's."""
    raise ValueError(text)


def double(value: Any) -> Any:
    """Print, as user code does, and return twice the value."""
    print("printed by the call")  # noqa: T201
    os.write(1, b"written by the call\n")
    return 2 * value


def work(total: int, listener: ProgressListener) -> str:
    """Tell the listener and the log."""
    listener.note("a note")
    listener.begin("work", total)
    listener.advance(total, "text")
    listener.end("done")
    logging.getLogger("foldbench").warning("100 %s", "%d")
    return "result"


def throw(error: BaseException) -> None:
    """Raise it."""
    raise error


FAILURES: dict[str, Callable[[], Any]] = {
    "ours": lambda: throw(OwnDataError("images/: no class folders")),
    "segfault": lambda: ctypes.string_at(0),
    "_exit": lambda: os._exit(0),
    "exit": lambda: sys.exit("tired"),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "interrupt": lambda: throw(KeyboardInterrupt()),
    "file": lambda: Path("/nowhere/x").read_bytes(),
    "memory": lambda: throw(MemoryError()),
    "unforeseen": lambda: throw(type("TheirsError", (Exception,), {})("two\nlines")),
    "unpicklable": lambda: lambda: 0,
}


def fail(kind: str) -> Any:
    """Raise or end in the way named."""
    return FAILURES[kind]()


def wait_for_ever(*arguments: Any) -> None:
    """Never return, nor answer."""
    time.sleep(600)


def spawn_one_more() -> int:
    """Start a process of Python from within, as a loader of data may."""
    done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True)
    return int(done.stdout)


def run_module(name: str, value: float) -> list[float]:
    """Return what the module that is kept as `name` makes of an image of one value."""
    import torch

    from foldbench.models.building.sources import build_source

    module = build_source(f"memory:{name}", {}, None, (1, 1, 2))
    result: list[float] = module(torch.full((1, 2), value))[0].tolist()
    return result


def wait_for_status(process_id: int, status: str) -> None:
    """Return as soon as psutil says that a process is in that state; fail after 20 s."""
    import psutil

    end = time.monotonic() + 20
    while psutil.Process(process_id).status() != status and time.monotonic() < end:
        time.sleep(0.01)
    assert psutil.Process(process_id).status() == status

"""What runs on the other machine: take a bundle, run it alone, give its record back.

It is sent there as text. It needs the standard library alone, of Python 3.6 or newer, so that it is
the bundle that refuses a Python that is too old.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

_LOCK = "foldbench.lock"
_FOLDER = "foldbench-remote-"
_PIECE = 1 << 20
_END_S = 10


class Refused(Exception):
    """Why the bundle does not run."""


def measure(
    name: str,
    write: "Callable[[str], None]",
    say: "Callable[[str], None]",
    wait: "Callable[[], None] | None" = None,
) -> "dict[str, str]":
    """Return the text of the bundle's `record`, or the `reason` why there is none.

    `write` puts the bundle at a path, under the file name `name`; `say` gets each line of progress;
    the bundle is ended when `wait` returns. One bundle runs at a time on a machine. Nothing stays
    there, and what a run that was killed left there is removed.
    """
    try:
        with _alone() as lock:
            for left in glob.glob(os.path.join(tempfile.gettempdir(), _FOLDER + "*")):
                shutil.rmtree(left, ignore_errors=True)
            folder = tempfile.mkdtemp(prefix=_FOLDER)
            try:
                bundle = os.path.join(folder, name)
                write(bundle)
                return _run(bundle, folder, lock, say, wait)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except Refused as refused:
        return {"reason": str(refused)}
    except OSError as error:
        return {"reason": f"{error.strerror or error}: TMPDIR there names another place"}


@contextlib.contextmanager
def _alone() -> "Iterator[int]":
    """Hold the machine's lock; yield its file descriptor. Raises Refused where another has it."""
    path = os.path.join(tempfile.gettempdir(), _LOCK)
    while True:
        lock = _open(path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Refused("another bundle is being measured there: wait for its end") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                break
        os.close(lock)  # whoever had it has removed the file
    try:
        yield lock
    finally:
        with contextlib.suppress(OSError):  # another user's
            os.unlink(path)
        os.close(lock)


def _open(path: str) -> int:
    """Return a descriptor of the lock's file, which may be another user's."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with contextlib.suppress(FileExistsError):
            lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.fchmod(lock, 0o644)
            return lock


def _run(
    bundle: str,
    folder: str,
    lock: int,
    say: "Callable[[str], None]",
    wait: "Callable[[], None] | None",
) -> "dict[str, str]":
    record = os.path.join(folder, "record.json")
    process = subprocess.Popen(
        [sys.executable, bundle, "--output", record],
        cwd=folder,
        env=dict(os.environ, TMPDIR=folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=(lock,),  # so that it is held for as long as the bundle runs, whatever ends this
    )
    errors = []
    try:
        if wait is not None:
            threading.Thread(target=_end_after, args=(wait, process), daemon=True).start()
        for line in process.stderr or ():
            text = line.decode("utf-8", "replace").strip()
            if text.startswith("Error: "):
                errors.append(text[len("Error: ") :])
            elif text and not text.startswith("written: "):
                say(text)
        code = process.wait()
    finally:
        _end(process)
    if os.path.exists(record):
        with open(record, encoding="utf-8") as file:
            return {"record": file.read()}
    ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return {"reason": errors[-1] if errors else f"the bundle was ended {ended}"}


def _end_after(wait: "Callable[[], None]", process: "subprocess.Popen[bytes]") -> None:
    wait()
    _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the bundle and the processes that it started, if it still runs."""
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(_END_S)
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    """Do so for whoever is at the other end of stdin and stdout.

    From stdin come a line of JSON with ``mark``, ``name``, ``bytes`` and ``sha256``, and after the
    event ``ready`` the bundle. Each event is a line of JSON on stdout behind the mark, so that what
    a login shell prints is told apart. Where stdin ends early, so does all of it.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    about = json.loads(sys.stdin.buffer.readline().decode())

    def tell(event: "dict[str, str]") -> None:
        print(about["mark"] + json.dumps(event), flush=True)  # noqa: T201

    def write(path: str) -> None:
        tell({"ready": ""})
        left, found = about["bytes"], hashlib.sha256()
        with open(path, "wb") as file:
            while left:
                piece = sys.stdin.buffer.read(min(_PIECE, left))
                if not piece:
                    raise Refused("the connection was cut")
                file.write(piece)
                found.update(piece)
                left -= len(piece)
        if found.hexdigest() != about["sha256"]:
            raise Refused("the copy there is not what was sent: try again")

    def wait() -> None:
        os.read(0, 1)  # nothing more is sent: it returns where the connection ends

    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        tell(measure(about["name"], write, lambda text: tell({"say": text}), wait))


if __name__ == "__main__":
    main()

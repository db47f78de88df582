"""A bundle on a machine that the system's OpenSSH reaches, by the user's configuration and keys.

One connection does it all. The program that takes the bundle (`there`) comes first on its stdin,
then the bundle. It ends, and removes its files, when the connection does.
"""

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import copyfileobj
from threading import Thread
from typing import IO

from foldbench.bench.errors import BenchError
from foldbench.bench.remote.places import PROGRAM, Say
from foldbench.bench.store.files import file_sha256

_HOST = re.compile(r"(ssh://)?([\w.+][\w.+-]*@)?[\w.:\[][\w.:%\[\]-]*", re.ASCII)
_PYTHON = re.compile(r"[\w./~][\w./~+-]*", re.ASCII)
_OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ClearAllForwardings=yes"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
)
_FAILED = 255
"""Exit code of ssh where the connection did not come about, or broke."""
_NOT_FOUND = (126, 127)
"""Exit codes of a shell for a command that is not there, or is none."""


class Host:
    """A machine that is reached by ssh."""

    def __init__(self, name: str, python: str) -> None:
        """Raise BenchError for what could be an option, or more than one word of a command."""
        if not _HOST.fullmatch(name):
            raise BenchError(f"{name!r} is no host: give one such as pi or me@192.168.1.7")
        if not _PYTHON.fullmatch(python):
            raise BenchError(f"{python!r} is no command: give one such as venv/bin/python")
        self.name = name
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def measure(self, bundle: Path, say: Say) -> str:
        """Return the text of the record; see `Place`."""
        program = PROGRAM.read_bytes()
        mark = secrets.token_hex(8)
        about = {
            "mark": mark,
            "name": bundle.name,
            "bytes": bundle.stat().st_size,
            "sha256": file_sha256(bundle),
        }
        was_ready, answer, errors = False, None, list[str]()
        with self._start(len(program)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            reader = Thread(target=_collect, args=(process.stderr, errors))
            reader.start()
            try:
                _send(process.stdin, program + json.dumps(about).encode() + b"\n")
                for event in _events(process.stdout, mark):
                    if "ready" in event:
                        was_ready = True
                        say("copying the bundle")
                        _send(process.stdin, bundle)
                    elif "say" in event:
                        say(event["say"])
                    else:
                        answer = event
            except BaseException:
                process.terminate()  # it may be writing what nobody reads any more
                raise
            finally:
                with suppress(BrokenPipeError):
                    process.stdin.close()
                code = process.wait()
                reader.join()
        if answer is None:
            raise BenchError(self._reason(code, was_ready, errors[-1] if errors else ""))
        if "reason" in answer:
            raise BenchError(answer["reason"])
        return answer["record"]

    def _start(self, program_bytes: int) -> "subprocess.Popen[bytes]":
        begin = f'{self._python} -c "import sys;exec(sys.stdin.buffer.read({program_bytes}))"'
        try:
            process = subprocess.Popen(
                ["ssh", *_OPTIONS, "--", self.name, begin],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise BenchError(f"ssh cannot be started: {error.strerror}: install OpenSSH") from None
        self._process = process
        if self._is_stopped:
            process.terminate()
        return process

    def stop(self) -> None:
        """End the connection, and by that what runs there."""
        self._is_stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _reason(self, code: int, was_ready: bool, error: str) -> str:
        """Return why there is no record; `error` is the last line on stderr."""
        error = error.removeprefix("ssh: ")
        if code in _NOT_FOUND:
            return f"{self._python} is not there: install Python 3.11, or name one with --python"
        if was_ready or not error:
            return "the connection was cut" + (f" ({error})" if error else "")
        if code == _FAILED:
            return f"{error.rstrip('.')}: check with ssh {self.name} true"
        return error


def _send(stream: IO[bytes], what: bytes | Path) -> None:
    """Write to the other end; where that has hung up, what it said or ssh's exit code tells why."""
    with suppress(BrokenPipeError):
        if isinstance(what, bytes):
            stream.write(what)
        else:
            with what.open("rb") as file:
                copyfileobj(file, stream)
        stream.flush()


def _events(stream: IO[bytes], mark: str) -> Iterator[dict[str, str]]:
    """Yield what the program there tells; a line that was cut is none."""
    for line in stream:
        text = line.decode("utf-8", "replace")
        if text.startswith(mark) and text.endswith("\n"):
            yield json.loads(text.removeprefix(mark))


def _collect(stream: IO[bytes], lines: list[str]) -> None:
    """Add the lines of the stream that are not empty to `lines`."""
    for line in stream:
        if text := line.decode("utf-8", "replace").strip():
            lines.append(text)

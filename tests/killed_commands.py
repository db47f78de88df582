"""Commands that are sent a signal at a moment of their work, whatever the machine does meanwhile.

A moment is a change that the command is about to make on the disk, or progress that it tells of.
The Nth moment is the Nth again in the next try, which no number of seconds is.
"""

import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from foldbench.bench.cli import main
from foldbench.bench.cli.console import PlainListener
from foldbench.models.training import trainer

LOG = "log"
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree")
_PLACES = {"FOLDBENCH_RUNS": "runs", "FOLDBENCH_CACHE": "cache", "TMPDIR": "tmp"}
_TOLD = ("note", "begin", "advance", "end")


@dataclass
class Moments:
    """Counts what happens in `folder`, and sends this process a signal at one of its moments."""

    folder: str
    number: int
    """Of the signal."""
    at: int | None
    """From 1; None: no signal is sent."""
    count: int = 0

    def pass_one(self) -> None:
        """Count a moment; at the chosen one, send the signal."""
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), self.number)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take what is audited by Python for a moment where it changes something in `folder`."""
        if event == "open":
            path, _, flags = arguments
            changes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        elif event in _CHANGES:
            path, changes = arguments[0], True
        else:
            return
        if changes and isinstance(path, str | Path) and self._is_inside(path):
            self.pass_one()

    def _is_inside(self, path: str | Path) -> bool:
        return os.path.abspath(path).startswith(self.folder)

    def listen(self) -> None:
        """Take all that a command tells for a moment, after every batch in training."""
        trainer._PROGRESS_INTERVAL_S = 0
        for name in _TOLD:
            setattr(PlainListener, name, self._counted(getattr(PlainListener, name)))

    def _counted(self, tell: Any) -> Any:
        def counted(*arguments: Any) -> None:
            self.pass_one()
            tell(*arguments)

        return counted


def run(
    connection: Connection, folder: Path, arguments: list[str], number: int, at: int | None
) -> None:
    """Be `bench` with these arguments, its files and its output in `folder`; send the moments."""
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    os.chdir(folder)  # its processes are found by that
    for name, place in _PLACES.items():
        os.environ[name] = str(folder / place)
    sys.argv[:] = ["bench", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    moments = Moments(f"{folder}{os.sep}", number, at)
    moments.listen()
    sys.addaudithook(moments.hear)
    try:
        main()
    finally:
        connection.send(moments.count)

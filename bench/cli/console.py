"""Progress on the terminal: a live bar where there is one, plain lines where there is none.

Everything goes to stderr, so that stdout holds results alone.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from foldbench.bench import units
from foldbench.bench.cli.echo import echo, lines, message
from foldbench.bench.progress import NullListener, ProgressListener

if TYPE_CHECKING:
    from rich.progress import TaskID

_PLAIN_INTERVAL_S = 15.0


class PlainListener:
    """Lines of a log: every note, and how far work is every quarter of a minute."""

    def __init__(self) -> None:
        self._title = ""
        self._total = 0
        self._began_s = self._told_s = 0.0
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        """Write the line, unless it is one that was written before."""
        if text not in self._said:
            self._said.add(text)
            echo(text, err=True)

    def begin(self, title: str, total: int) -> None:
        """Say what begins."""
        self._title, self._total = title, total
        self._began_s = self._told_s = time.monotonic()
        echo(f"{title} ...", err=True)

    def advance(self, done: int, text: str = "") -> None:
        """Say how far it is, unless that was said a moment ago."""
        now = time.monotonic()
        if now - self._told_s >= _PLAIN_INTERVAL_S:
            self._told_s = now
            left = ""
            if done:
                left_s = (now - self._began_s) / done * (self._total - done)
                left = f"  {units.long_duration(left_s)} left"
            share = 100 * done // max(self._total, 1)
            echo(f"{self._title}: {share} %  {text}{left}", err=True)

    def end(self, text: str = "") -> None:
        """Say what came of it, if anything."""
        if text:
            self.note(text)


class RichListener:
    """A bar with figures and the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
            transient=True,
            auto_refresh=False,  # no thread that wakes up while something is timed
        )
        self._task: TaskID | None = None
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        """Write the line above the bar, unless it is one that was written before."""
        if text in self._said:
            return
        self._said.add(text)
        self._console.print(lines(text), markup=False, soft_wrap=True)

    def begin(self, title: str, total: int) -> None:
        """Start a new bar."""
        self._clear()
        self._task = self._progress.add_task(message(title), total=max(total, 1), figures="")
        self._progress.start()

    def advance(self, done: int, text: str = "") -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, figures=message(text), refresh=True)

    def end(self, text: str = "") -> None:
        """Take the bar away."""
        self._clear()
        if text:
            self.note(text)

    def _clear(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._progress.stop()


@contextmanager
def progress(shown: bool = True) -> Iterator[ProgressListener]:
    """Yield the listener that fits stderr, one that says nothing unless `shown`; leave no bar."""
    if not shown:
        yield NullListener()
        return
    listener = RichListener() if sys.stderr.isatty() else PlainListener()
    try:
        yield listener
    finally:
        listener.end()

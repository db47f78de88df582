"""How long work tells what it is doing; the library calls, the command line shows."""

from typing import Protocol


class ProgressListener(Protocol):
    """Receives the progress of long work."""

    def note(self, text: str) -> None:
        """Hear one fact worth a line, such as which run was chosen."""

    def begin(self, title: str, total: int) -> None:
        """Hear that work of `total` units begins; the one before it has ended."""

    def advance(self, done: int, text: str = "") -> None:
        """Hear that `done` of the units are done, with the figures of the moment."""

    def end(self, text: str = "") -> None:
        """Hear that the work is done, and what came of it."""


class NullListener:
    """A listener that ignores everything."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def begin(self, title: str, total: int) -> None:
        """Ignore it."""

    def advance(self, done: int, text: str = "") -> None:
        """Ignore it."""

    def end(self, text: str = "") -> None:
        """Ignore it."""

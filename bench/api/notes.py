"""What a call tells while it works."""

from foldbench.bench.progress import NullListener, ProgressListener


class Notes:
    """A listener that keeps the notes, and passes everything on to another one."""

    def __init__(self, inner: ProgressListener | None = None) -> None:
        self._inner = inner or NullListener()
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        """Keep it, once, and pass it on."""
        if text not in self.texts:
            self.texts.append(text)
        self._inner.note(text)

    def begin(self, title: str, total: int) -> None:
        """Pass it on."""
        self._inner.begin(title, total)

    def advance(self, done: int, text: str = "") -> None:
        """Pass it on."""
        self._inner.advance(done, text)

    def end(self, text: str = "") -> None:
        """Pass it on."""
        self._inner.end(text)

"""One report in each format, read and found good.

After a wanted change, write them anew with ``FOLDBENCH_WRITE_GOLDEN=1 pytest tests/reports`` and
read the difference.
"""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from foldbench.reports.render import render

GOLDEN = Path(__file__).parent / "golden"
SUFFIXES = {
    "screen": "screen.txt",
    "terminal": "txt",
    "md": "md",
    "html": "html.txt",
    "json": "json",
    "csv": "csv",
}


class Skeleton(HTMLParser):
    """The identities and headings of a page, a line each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._heading = re.fullmatch("h[1-6]", tag) is not None
        identity = dict(attrs).get("id")
        if identity or self._heading:
            self.lines.append(f"{tag} #{identity}" if identity else tag)

    def handle_data(self, data: str) -> None:
        if self._heading and data.strip():
            self.lines.append(f"  {data.strip()}")
            self._heading = False


@pytest.mark.parametrize("form", SUFFIXES)
def test_the_report_is_the_one_that_was_read_and_found_good(build, form: str) -> None:
    copy = build.data(title="CIFAR-10 (JPEG copy)", original=False)
    checkpoint = build.checkpoint(data=copy, config=build.config(epochs=2), epochs=2)
    run = build.run(checkpoint=checkpoint, evaluation_protocol="clean")
    first = form == "screen"
    text = render(run, "terminal", details=False) if first else render(run, form)
    if form == "html":
        text = "\n".join(Skeleton(text).lines) + "\n"
    path = GOLDEN / f"report.{SUFFIXES[form]}"
    if os.environ.get("FOLDBENCH_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")

"""Text for people on the terminal, whatever files and folders had a part in it."""

import logging

import click

from foldbench.reports.text.escaping import visible

_LONGEST = 2000
"""Characters of an error or a note; what is beyond is cut out of its middle."""


def echo(text: object = "", err: bool = False, nl: bool = True) -> None:
    """Print `text` as `lines` makes it."""
    click.echo(lines(str(text)), err=err, nl=nl)


def tell(text: str) -> None:
    """Print one line on stderr."""
    click.echo(message(text), err=True)


def lines(text: str) -> str:
    """Return `text`, where each control or invisible character but the line's end is escaped."""
    return "\n".join(visible(line) for line in text.split("\n"))


def message(text: str) -> str:
    """Return an error or a note as one line without control characters and of moderate length."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST * 3 // 4]} … {text[-_LONGEST // 4 :]}"
    return visible(" ".join(text.splitlines()))


class LogHandler(logging.Handler):
    """Warnings of the library's log, on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        click.echo(message(record.getMessage()), err=True)

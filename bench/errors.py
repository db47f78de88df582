"""Errors that foldbench raises on purpose.

Each message is one line: what was found, where, what is allowed, what to do. The library raises
them; only the command line turns them into text on stderr and an exit code.
"""

import os
from collections.abc import Iterable
from difflib import get_close_matches


class BenchError(Exception):
    """Something the user can fix; its text is shown as it is, without a traceback."""


class ConfigError(BenchError):
    """A configuration that cannot be used."""


class DataError(BenchError):
    """A data set that is missing, damaged or of the wrong form."""


class UnknownNameError(BenchError):
    """A name that no registry, run or configuration answers to."""


class MissingPackageError(BenchError):
    """A plug-in whose third-party package is not installed."""


class RunError(BenchError):
    """A run directory that is missing, damaged, busy or cannot be written."""


class TrainingError(BenchError):
    """Training that cannot start or go on."""


class CheckpointError(BenchError):
    """Weights or a checkpoint record that cannot be trusted."""


class ExportError(BenchError):
    """A network that could not be exported."""


class BackendError(BenchError):
    """A backend that could not give what was asked of it; becomes the reason of a row."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest spelling among `known`, or ``""``."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the text of `error` on one line of at most `limit` characters."""
    return cut(" ".join(str(error).split()) or type(error).__name__, limit)


def root_cause(error: BaseException) -> BaseException:
    """Return the error that the chain of causes behind `error` began with."""
    seen = {id(error)}
    while error.__cause__ is not None and id(error.__cause__) not in seen:
        error = error.__cause__
        seen.add(id(error))
    return error


def place_of(error: BaseException) -> str:
    """Return the last line of the user's own code that led to `error`: `` (net.py, line 3)``.

    Empty where there is none.
    """
    ours, place = os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "site-packages" not in name and not name.startswith(("<", ours)):
            place = f" ({os.path.basename(name)}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def listed(names: Iterable[str], limit: int = 20) -> str:
    """Return the first of `names`, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return ", ".join(cut(name, 100) for name in known[:limit]) + more


def cut(text: str, limit: int) -> str:
    """Return `text`, its end replaced by an ellipsis where it has more than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"

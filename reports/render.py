"""From runs to text in one call."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from bench.errors import UnknownNameError, nearest
from bench.records import Run
from reports.machine import summary
from reports.markdown import render_markdown
from reports.sections import build
from reports.terminal import render_terminal

Format = Literal["terminal", "md", "json"]


def render(run: Run | Sequence[Run], format: Format = "terminal") -> str:
    """Return the report of one run, or of several side by side, ending in a newline.

    ``json`` is one object with the list ``runs``, whatever their number. Raises UnknownNameError
    for another format, ValueError when there are no runs.
    """
    runs = [run] if isinstance(run, Run) else list(run)
    if format not in _RENDERERS:
        known = get_args(Format)
        raise UnknownNameError(
            f"unknown report format {format!r}{nearest(format, known)} (known: {', '.join(known)})"
        )
    return _RENDERERS[format](runs)


def _render_json(runs: Sequence[Run]) -> str:
    if not runs:
        raise ValueError("a report needs at least one run")
    text = json.dumps({"runs": [summary(run) for run in runs]}, indent=2, allow_nan=False)
    return text + "\n"


_RENDERERS: Mapping[str, Callable[[Sequence[Run]], str]] = {
    "terminal": lambda runs: render_terminal(build(runs)),
    "md": lambda runs: render_markdown(build(runs)),
    "json": _render_json,
}

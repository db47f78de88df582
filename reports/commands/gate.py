"""What a gate found: on the terminal, as Markdown for a job's summary, as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.gate import Check, GateResult
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated

_COLUMNS = (
    left("property"),
    right("BASE"),
    right("HEAD"),
    right("change"),
    right("bounds"),
    right("allowed"),
    left("HEAD is"),
)
_UNITS = {"latency": "%", "accuracy": "points"}
"""Of the smallest regressions that are told."""


def render_gate(result: GateResult, colour: bool = False) -> str:
    """Return what was found within 20 lines for the terminal, ending in a newline."""
    return render_terminal(_document(result), colour)


def gate_markdown(result: GateResult) -> str:
    """Return the same as Markdown."""
    return render_markdown(_document(result))


def gate_json(result: GateResult) -> dict[str, Any]:
    """Return everything as JSON types: unrounded, seconds, bytes and shares of 1."""
    facts = json.loads(json.dumps(asdict(result), allow_nan=False))
    return {"outcome": result.outcome, "fails": result.fails, **facts}


def describe_outcome(result: GateResult) -> str:
    """Return the answer in one sentence."""
    worse = [check.name for check in result.checks if check.outcome == "worse"]
    unclear = [check.name for check in result.checks if check.outcome == "cannot tell"]
    if worse:
        return f"HEAD is worse than BASE in {_and(worse)}."
    if unclear:
        return (
            f"Cannot tell whether HEAD is worse than BASE in {_and(unclear)}: raise --budget, or "
            "allow more."
        )
    return "HEAD is not worse than BASE by more than is allowed."


def describe_check(check: Check) -> str:
    """Return one line: what it came to, and why."""
    parts = [f"{check.name}: {check.outcome}"]
    if check.change is not None:
        parts.append(f"{_change(check, check.change)}, allowed {_allowed(check)}")
    if check.reason:
        parts.append(check.reason)
    return "; ".join(parts)


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _document(result: GateResult) -> Document:
    table = tabulated(_COLUMNS, [_cells(check) for check in result.checks])
    notes = tuple(_notes(result))
    section = ReportSection(describe_outcome(result), table, _caption(result), notes=notes)
    return Document(f"HEAD, {result.head}, against BASE, {result.base}", (section,))


def _cells(check: Check) -> list[str]:
    bounds = ""
    if check.low is not None and check.high is not None:
        bounds = f"{units.points(check.low)} to {units.points(check.high)} %"
    return [
        check.name,
        _value(check, check.base),
        _value(check, check.head),
        "" if check.change is None else _change(check, check.change),
        bounds,
        _allowed(check),
        check.outcome,
    ]


def _value(check: Check, value: float | None) -> str:
    if value is None:
        return ""
    if check.what == "latency":
        return units.duration(value)
    if check.what == "accuracy":
        return f"{units.percent(value)} %"
    return units.size(round(value))


def _change(check: Check, change: float) -> str:
    if check.what == "accuracy":
        return f"{units.points(-change)} points"
    if check.what == "agreement":
        return f"{units.percent(change)} % changed"
    return f"{units.points(change)} %"


def _allowed(check: Check) -> str:
    if check.what == "accuracy":
        return f"-{units.plain(100 * check.allowed)} points"
    return f"{units.plain(100 * check.allowed)} %"


def _caption(result: GateResult) -> str:
    number = result.processes
    said = [
        f"{units.count(number)} process{'es' * (number != 1)} of each network in "
        f"{units.long_duration(result.seconds)}."
    ]
    found = [
        f"{check.name} {units.percent(check.smallest)} {_UNITS[check.what]}"
        for check in result.checks
        if check.smallest is not None and check.what in _UNITS
    ]
    if found:
        share = units.plain(100 * (1 - result.beta))
        said.append(f"Smallest regressions found in {share} of 100 such jobs: {'; '.join(found)}.")
    return " ".join(said)


def _notes(result: GateResult) -> Iterator[str]:
    for check in result.checks:
        if check.reason:
            yield f"{check.name}: {check.reason}"
    yield from result.notes

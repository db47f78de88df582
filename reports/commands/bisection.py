"""What a bisection found: on the terminal, as JSON, and as the README of the part that shows it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from foldbench.bench import units
from foldbench.bench.analysis.bisection import Bisected, Part, Tried
from foldbench.bench.analysis.gate import Check
from foldbench.bench.errors import listed
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.text.document import Document, ReportSection, left, right, tabulated

_WORDS = {
    "latency": ("is slower than", "is not slower than", "slower"),
    "answers": (
        "gives answers that differ from those of",
        "gives no answers that differ from those of",
        "different",
    ),
    "peak memory": ("needs more memory than", "does not need more memory than", "larger"),
}
"""What a version does that is worse, one that is not, and what the worse one is called."""


def render_bisection(result: Bisected, colour: bool = False) -> str:
    """Return what was found for the terminal, ending in a newline."""
    return render_terminal(_document(result), colour)


def bisection_json(result: Bisected) -> dict[str, Any]:
    """Return everything as JSON types: unrounded, seconds, bytes and shares of 1."""
    facts = json.loads(json.dumps(asdict(result), allow_nan=False))
    return {"outcome": result.outcome, "fails": result.fails, "between": result.between, **facts}


def render_part(result: Bisected, part: Part) -> str:
    """Return the README of the part's folder as Markdown: what to file upstream."""
    verb = _WORDS[result.question][0]
    cpu, cores = result.environment.get("cpu"), result.environment.get("cores_usable")
    system, python = result.environment.get("os"), result.environment.get("python")
    facts = (
        ("nodes", f"{', '.join(part.operators)} ({part.nodes} of {part.of_nodes})"),
        (f"{part.bad} against {part.good}", _change(part.check)),
        ("machine", f"{cpu}, {cores} usable cores, {system}, Python {python}"),
    )
    commands = tuple(
        command
        for version in (part.good, part.bad)
        for command in (
            f"python -m pip install numpy onnxruntime=={version}",
            "python reproduce.py",
        )
    )
    profiles = f"profile-{part.good}.json and profile-{part.bad}.json are onnxruntime's profiles."
    section = ReportSection("To reproduce", pairs=facts, commands=commands, notes=(profiles,))
    title = f"onnxruntime {part.bad} {verb} {part.good}"
    return render_markdown(Document(title, (section,)))


def describe_bisection(result: Bisected) -> str:
    """Return the answer in one sentence."""
    verb, negated, _ = _WORDS[result.question]
    by = f"by more than {units.plain(100 * result.allowed)} %"
    newest = next((one.version for one in result.tried if one.check), result.versions[-1])
    if result.outcome == "not worse":
        return f"{result.runtime} {newest} {negated} {result.base} {by}."
    if not any(one.check for one in result.tried):
        return f"Cannot tell: no version after {result.base} runs {result.subject}."
    if result.bad is None:
        hint = "" if result.question == "answers" else ": raise --budget, or allow more"
        return f"Cannot tell whether {result.runtime} {newest} {verb} {result.base} {by}{hint}."
    check = next(one.check for one in result.tried if one.version == result.bad)
    how = f": {_change(check)}" if check else ""
    if not result.between:
        return f"{result.runtime} {result.bad} is the first that {verb} {result.base} {by}{how}."
    return (
        f"{result.runtime} {result.bad} {verb} {result.base} {by}{how}; {result.good} does not, "
        f"and {listed(result.between)} between them cannot be told."
    )


def _document(result: Bisected) -> Document:
    place = {version: number for number, version in enumerate(result.versions)}
    ordered = sorted(result.tried, key=lambda one: place[one.version])
    columns = (left("version"), *_COLUMNS[result.question], left(f"against {result.base} it is"))
    rows = [_cells(one, result, len(columns)) for one in ordered if one.check]
    table = tabulated(columns, rows)
    span = f"{result.versions[0]} to {result.versions[-1]}"
    title = f"{result.subject} in {result.runtime} {span}"
    section = ReportSection(
        describe_bisection(result), table, _caption(result), notes=tuple(_notes(result))
    )
    return Document(title, (section,))


_COLUMNS = {
    "latency": (right("median"), right("change"), right("bounds"), right("processes")),
    "answers": (right("largest difference"),),
    "peak memory": (right("peak memory"), right("change"), right("bounds"), right("processes")),
}


def _cells(tried: Tried, result: Bisected, columns: int) -> list[str]:
    check = tried.check
    if check is None:
        return [tried.version, *[""] * (columns - 2), "skipped"]
    worse = _WORDS[result.question][2]
    called = {"worse": worse, "not worse": f"not {worse}"}.get(check.outcome, check.outcome)
    if result.question == "answers":
        return [tried.version, units.error(check.change), called]
    head = units.duration(check.head) if result.question == "latency" else _bytes(check.head)
    number = "" if check.generations is None else units.count(check.generations)
    change = "" if check.change is None else f"{units.points(check.change)} %"
    return [tried.version, head, change, _bounds(check), number, called]


def _bytes(value: float | None) -> str:
    return "" if value is None else units.size(round(value))


def _bounds(check: Check) -> str:
    if check.low is None or check.high is None:
        return ""
    return f"{units.points(check.low)} to {units.points(check.high)} %"


def _change(check: Check) -> str:
    if check.what == "answers":
        return (
            f"{units.error(check.change)} of the largest"
            if check.change is not None
            else str(check.reason)
        )
    return f"{units.points(check.change)} % ({_bounds(check)})"


def _caption(result: Bisected) -> str:
    verdicts = sum(one.check is not None for one in result.tried)
    said = [
        f"{units.count(verdicts)} of {units.count(len(result.versions))} versions were held "
        f"against {result.base} in {units.long_duration(result.seconds)}."
    ]
    if verdicts and result.error:
        share = units.plain(100 * (1 - result.error))
        said.append(f"All verdicts are right in at least {share} of 100 such bisections.")
    if result.bad is not None:
        said.append("This holds where all versions after the first worse one are worse, too.")
    return " ".join(said)


def _notes(result: Bisected) -> Iterator[str]:
    for one in result.tried:
        if one.check is None:
            yield f"{one.version} was skipped: {one.reason}"
        elif one.check.reason:
            yield f"{one.version}: {one.check.reason}"
    yield from result.notes
    part = result.part
    if part is not None:
        yield (
            f"smallest part that shows it: {part.nodes} of {part.of_nodes} nodes "
            f"({listed(part.operators)}), {part.bad} against {part.good}: {_change(part.check)}"
        )
        yield f"written to {part.folder}: model, input, expected output, script, both profiles"

"""Write what the docs take from the code and from published results: `python docs/generate.py`.

`cli.md` and `configuration.md` are written whole. In other pages, the lines between
``<!-- table: NAME -->`` and ``<!-- /table -->`` are written anew: NAME is a published comparison,
``results`` (all of them) or ``csv`` (the columns of the CSV report).
``--check`` writes nothing and exits with 1 when a page is stale.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from foldbench.bench.analysis.answers import exceeded_limit
from foldbench.bench.cli import cli
from foldbench.bench.config.schema import Config
from foldbench.bench.units import estimate, milliseconds, percent
from foldbench.bench.units import size as file_size
from foldbench.reports.formats.csv_rows import COLUMNS
from foldbench.reports.text.names import name_of

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "reports" / "published"
TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def commands() -> str:
    """Return the page of all commands: usage, help and options of each."""
    return "\n".join(["# Commands", "", *_command(cli, ("bench",))]).rstrip() + "\n"


def _command(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(path), max_content_width=100)
    yield from (f"## `{' '.join(path)}`", "", "```console", f"$ {' '.join(path)} --help")
    yield from (click.unstyle(command.get_help(context)).rstrip(), "```", "")
    for name, below in sorted(getattr(command, "commands", {}).items()):
        if not below.hidden:
            yield from _command(below, (*path, name))


def configuration() -> str:
    """Return the page of all keys of a configuration: kind, default, meaning."""
    schema = Config.model_json_schema()
    parts = schema["$defs"]
    lines = [
        "# Configuration",
        "",
        "Keys of a `.yaml` file, or of `--set SECTION.KEY=VALUE`. A file names the one that",
    ]
    lines += ["it builds on by `extends: NAME` and holds only what differs.", ""]
    lines += _keys("", schema, parts)
    return "\n".join(lines).rstrip() + "\n"


def _keys(path: str, section: dict[str, Any], parts: dict[str, Any]) -> Iterator[str]:
    """Yield the table of a section's own keys, then those of the sections within it."""
    keys = section["properties"]
    below = {key: parts[found] for key, value in keys.items() if (found := _section(value, parts))}
    if path:
        yield from (f"## `{path}`", "", " ".join(section.get("description", "").split()), "")
    own = {key: value for key, value in keys.items() if key not in below}
    if own:
        yield from ("| key | kind | default | meaning |", "|:--|:--|:--|:--|")
        for key, value in own.items():
            default = json.dumps(value["default"]) if "default" in value else ""
            cells = (f"`{key}`", _kind(value, parts), default and f"`{default}`", _meaning(value))
            yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
        yield ""
    for key, value in below.items():
        yield from _keys(f"{path}.{key}" if path else key, value, parts)


def _section(value: dict[str, Any], parts: dict[str, Any]) -> str | None:
    """Return the name of the section that a key holds, or None for a plain value."""
    for option in (value, *value.get("anyOf", ())):
        name = option.get("$ref", "").rpartition("/")[2]
        if "properties" in parts.get(name, {}):
            return name
    return None


def _kind(value: dict[str, Any], parts: dict[str, Any]) -> str:
    """Return in words which values a key takes."""
    if "$ref" in value:
        return _kind(parts[value["$ref"].rpartition("/")[2]], parts)
    if "anyOf" in value:
        return " or ".join(_kind(option, parts) for option in value["anyOf"])
    if "enum" in value or "const" in value:
        return ", ".join(f"`{option}`" for option in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_kind(value['items'], parts)}" if "items" in value else "list"
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    given = [f"{sign} {value[key]:,}" for key, sign in limits.items() if key in value]
    kind = {"null": "none", "object": "mapping"}.get(
        value.get("type", ""), value.get("type", "any")
    )
    return f"{kind} {', '.join(given)}".strip()


def _meaning(value: dict[str, Any]) -> str:
    return " ".join(value.get("description", "").split())


def results() -> str:
    """Return a table of the published comparisons, one line each."""
    lines = [
        "| run | date | machine | top-1 % | fastest float32 at batch 1 | report |",
        "|:--|:--|:--|--:|:--|:--|",
    ]
    for path in sorted(PUBLISHED.glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))["runs"][0]
        machine = run["environment"]
        gpus = ", ".join(gpu["name"] for gpu in machine.get("gpus") or ())
        on = f"{machine['cores_usable']} cores of {machine['cpu']}{gpus and f', {gpus}'}"
        accuracy = {
            row["contender"]: row["accuracy"]
            for row in run["accuracy"]
            if row["precision"] == "float32"
            if not exceeded_limit("float32", row["max_rel_difference"] or 0.0)
        }
        rows = [
            row
            for row in run["latency"]
            if row["batch_size"] == 1 and row["speedup_ratio"] and row["boundary"] == "host"
            if row["contender"] in accuracy
        ]
        best = max(rows, key=lambda row: row["speedup_ratio"])
        fastest = (
            f"{name_of(best['contender'])}: {milliseconds(best['median_s'])} ms, {_speedup(best)}"
        )
        cells = (
            f"`{path.stem}`",
            run["created"][:10],
            on,
            percent(accuracy[best["contender"]]),
            fastest,
        )
        lines.append(f"| {' | '.join(cells)} | [report](../reports/published/{path.stem}.md) |")
    return "\n".join(lines) + "\n"


def contenders(name: str) -> str:
    """Return a published comparison as a table: a row per contender, columns per batch size."""
    run = json.loads((PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))["runs"][0]
    sizes = list(dict.fromkeys(row["batch_size"] for row in run["latency"]))
    header = [
        "contender",
        "top-1 %",
        "file",
        *(f"batch {n}{unit}" for n in sizes for unit in (", ms", ", speed-up")),
    ]
    lines = [f"| {' | '.join(header)} |", f"|:--|{'--:|' * (len(header) - 1)}"]
    latency = {
        (row["contender"], row["batch_size"]): row
        for row in run["latency"]
        if row["boundary"] == "host"
    }
    slowest_first = sorted(
        run["accuracy"], key=lambda row: -latency[row["contender"], sizes[0]]["median_s"]
    )
    for row in slowest_first:
        size = "" if row["contender"].startswith("torch") else file_size(row["size_bytes"])
        cells = [name_of(row["contender"]), percent(row["accuracy"]), size]
        for n in sizes:
            timing = latency[row["contender"], n]
            cells += [milliseconds(timing["median_s"]), _speedup(timing)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _speedup(row: dict[str, Any]) -> str:
    """Return a row's speed-up with its interval, as reports show it."""
    value, interval = estimate(row["speedup_ratio"], row["speedup_low"], row["speedup_high"])
    if row["verdict"] is None:
        return "1×" if row["speedup_ratio"] == 1 else ""
    return (
        f"{value}× ({interval})" if row["verdict"] in ("faster", "slower") else f"{value}× (n.s.)"
    )


def pages() -> dict[Path, str]:
    """Return every page that has generated parts, with its text as it should be."""
    found = {
        ROOT / "docs" / "cli.md": commands(),
        ROOT / "docs" / "configuration.md": configuration(),
    }
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        if path not in found and TABLE.search(text):
            found[path] = TABLE.sub(lambda hit: f"{hit[1]}{_table(hit[2])}{hit[3]}", text)
    return found


def csv_columns() -> str:
    """Return a table of the columns of the CSV report."""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in COLUMNS.items()]
    return "\n".join(["| column | holds |", "|:--|:--|", *rows]) + "\n"


def _table(name: str) -> str:
    tables = {"results": results, "csv": csv_columns}
    return tables[name]() if name in tables else contenders(name)


def main() -> int:
    """Write the stale pages, or with ``--check`` name them; return the exit code."""
    stale = [
        p for p, text in pages().items() if not p.exists() or p.read_text(encoding="utf-8") != text
    ]
    if "--check" not in sys.argv[1:]:
        for path in stale:
            path.write_text(pages()[path], encoding="utf-8")
    for path in stale:
        print(path.relative_to(ROOT))  # noqa: T201
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())

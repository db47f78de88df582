"""What the commands print on stdout: for people, or as JSON for machines."""

import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench.cli.echo import echo
from foldbench.bench.cli.help import OUTPUT, section

if TYPE_CHECKING:
    from foldbench.bench.predict.image_model import ImageModel
    from foldbench.bench.records import (
        Artifact,
        Run,
    )
    from foldbench.bench.records.finding import Finding
    from foldbench.bench.store.directory import RunDirectory
    from foldbench.exporters.onnx_optimize import Optimized


_WIDTH = 100


def print_artifacts(made: "Sequence[tuple[RunDirectory, Artifact]]", as_json: bool) -> None:
    """Print where each artifact is and what was proven about it."""
    from foldbench.reports.commands.export import artifact_json, render_artifact

    if as_json:
        print_json([artifact_json(run.path, artifact) for run, artifact in made])
    else:
        for run, artifact in made:
            echo(render_artifact(run.path, artifact), nl=False)


def print_added(run: "RunDirectory", as_json: bool) -> None:
    """Say where an added network's weights and record are, and what it is."""
    from foldbench.reports.commands.add import render_added

    checkpoint = run.checkpoint()
    if as_json:
        record = checkpoint.model_dump(mode="json")
        print_json({"run": run.name, "path": str(run.path), "checkpoint": record})
    else:
        echo(render_added(run.path, checkpoint), nl=False)


def print_optimized(made: "Optimized", as_json: bool) -> None:
    """Print what passes did to an .onnx file."""
    from foldbench.reports.commands.optimize import render_optimized

    if as_json:
        proofs = {name: parity.model_dump(mode="json") for name, parity in made.parity}
        print_json(
            {
                "path": str(made.path),
                "given": str(made.given),
                "target": made.target,
                "sha256": made.sha256,
                "size_bytes": made.size_bytes,
                "given_size_bytes": made.given_size_bytes,
                "node_count": made.node_count,
                "given_node_count": made.given_node_count,
                "passes": [one.model_dump(mode="json") for one in made.passes],
                "parity": proofs,
            }
        )
        return
    text = render_optimized(
        made.path,
        made.given,
        (made.given_node_count, made.node_count),
        (made.given_size_bytes, made.size_bytes),
        made.passes,
        made.parity,
        made.random_images,
    )
    echo(text, nl=False)


def print_image_model(run: "RunDirectory", model: "ImageModel", as_json: bool) -> None:
    """Say where the file with preprocessing inside is; on stderr when stdout holds JSON."""
    from foldbench.reports.commands.export import render_image_model

    echo(render_image_model(run.path, model), nl=False, err=as_json)


@dataclass(frozen=True)
class Shown:
    """How much of a report a command prints."""

    details: bool
    quiet: bool
    as_json: bool


amount_options = section(
    OUTPUT,
    click.option("--details", is_flag=True, help="All tables and notes in place of one screen."),
    click.option("-q", "--quiet", is_flag=True, help="The answer alone, in two sentences."),
)
"""Adds --details and --quiet, which are about the terminal."""


def shown_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --details and --quiet, which the command gets as `shown` together with as_json."""

    @functools.wraps(command)
    def wrapped(details: bool, quiet: bool, as_json: bool, **options: Any) -> None:
        refuse_both(details, quiet)
        command(**options, shown=Shown(details, quiet, as_json))

    return amount_options(wrapped)


def refuse_both(details: bool, quiet: bool) -> None:
    """Raise UsageError where more and less are asked for at once."""
    if details and quiet:
        raise click.UsageError("--details and --quiet ask for more and for less: give one")


def print_report(records: "Sequence[Run]", shown: Shown, took_s: float) -> None:
    """Print the report of all records as one; the comparison took `took_s`."""
    from foldbench.reports.render import render, summarise

    if shown.as_json:
        click.echo(render(records, "json"))
    elif shown.quiet:
        echo(summarise(records), nl=False)
    else:
        text = render(
            records, "terminal", colour=wants_colour(), details=shown.details, took_s=took_s
        )
        click.echo(text, nl=shown.details)


def wants_colour() -> bool:
    """Return whether stdout is a terminal whose user did not ask for plain text.

    Source: no-color.org.
    """
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def print_written(runs: "Sequence[RunDirectory]", shown: Shown) -> None:
    """Say where the page is; on stderr when stdout holds JSON or the answer alone."""
    names = " ".join(run.name for run in runs)
    page = f"bench report {names} --output report.html"
    if len(runs) == 1:
        page = str(runs[0].path / "report.html")
    lines = [] if shown.details else [f"All tables  bench report {names} --details"]
    lines.append(f"Report  {page}")
    together = "   ".join(lines)
    text = together if len(together) <= _WIDTH else "\n".join(lines)
    echo(text, err=shown.as_json or shown.quiet)


def print_listing(found: dict[str, dict[str, str]], as_json: bool) -> None:
    """Print every kind's names with one line about each."""
    from foldbench.reports.commands.list import render_listing

    if as_json:
        print_json(found)
    else:
        echo(render_listing(found), nl=False)


def print_findings(findings: "Sequence[Finding]", as_json: bool) -> None:
    """Print what came of each fault."""
    from foldbench.reports.commands.doctor import render_findings

    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        echo(render_findings(findings), nl=False)


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    click.echo(json.dumps(value, indent=2))

"""What the commands print on stdout: for people, or as JSON for machines."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench.cli.echo import echo

if TYPE_CHECKING:
    from foldbench.bench.predict.image_model import ImageModel
    from foldbench.bench.records import (
        Artifact,
        Run,
    )
    from foldbench.bench.records.finding import Finding
    from foldbench.bench.store.directory import RunDirectory
    from foldbench.exporters.onnx_optimize import Optimized


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


def print_report(records: "Sequence[Run]", as_json: bool) -> None:
    """Print the report of all records as one."""
    from foldbench.reports.render import render

    if as_json:
        click.echo(render(records, "json"))
    else:
        click.echo(render(records, "terminal", colour=wants_colour()))


def wants_colour() -> bool:
    """Return whether stdout is a terminal whose user did not ask for plain text.

    Source: no-color.org.
    """
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def print_written(runs: "Sequence[RunDirectory]", as_json: bool) -> None:
    """Say where results and reports are, the page last; on stderr when stdout holds JSON."""
    for run in runs:
        echo(f"written: {run.comparison().path}, {run.path / 'report.md'}", err=as_json)
    for run in runs:
        echo(f"to look at: {run.path / 'report.html'}", err=as_json)
    if len(runs) > 1:
        names = " ".join(run.name for run in runs)
        echo(f"in one page: bench report {names} --format html --output report.html", err=as_json)


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

"""What the commands print on stdout: for people, or as JSON for machines."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from foldbench.bench.cli.echo import echo
from foldbench.reports.text.escaping import visible

if TYPE_CHECKING:
    from foldbench.bench.predict.image_model import ImageModel
    from foldbench.bench.records import (
        Artifact,
        ContenderProfile,
        Measurement,
        QuantizationReport,
        Run,
    )
    from foldbench.bench.stages.doctor import Finding
    from foldbench.bench.store.directory import RunDirectory


def print_artifacts(made: "Sequence[tuple[RunDirectory, Artifact]]", as_json: bool) -> None:
    """Print where each artifact is and what was proven about it."""
    if not as_json:
        for run, artifact in made:
            _print_artifact(run, artifact)
        return
    print_json(
        [
            {
                "run": run.name,
                "path": str(run.path / artifact.path),
                "artifact": artifact.model_dump(mode="json"),
            }
            for run, artifact in made
        ]
    )


def _print_artifact(run: "RunDirectory", artifact: "Artifact") -> None:
    fold, parity = artifact.fold, artifact.parity
    echo(f"{run.path / artifact.path}")
    by = " and ".join(artifact.folded_by) or "none"
    echo(
        f"  BatchNorm: {fold.batchnorms_before} in the module, {fold.batchnorms_after} after "
        f"folding, {artifact.batchnorm_nodes} in the file (folded by {by})"
    )
    for skip in fold.skipped:
        echo(f"  left as it is: {skip.module or 'the network'}: {skip.reason}")
    for done in artifact.passes:
        echo(f"  pass {done.name}: {done.detail}")
    if fold.agreement:
        a = fold.agreement
        echo(
            f"  folded against unfolded: largest difference {a.max_abs_difference:.2e} "
            f"({a.max_rel_difference:.2e} of the largest logit), "
            f"{a.top1_equal:,} of {a.images:,} predictions identical"
        )
    verdict = "passed" if parity.passed else f"FAILED: {parity.reason}"
    of = "" if artifact.quantization is None else " of the float32 file"
    echo(f"  parity{of} with torch: {verdict} ({len(parity.cases)} kinds of input)")
    if artifact.quantization is not None:
        _print_quantization(artifact.precision, artifact.quantization)


def _print_quantization(precision: str, report: "QuantizationReport") -> None:
    c = report.closeness
    for trial in report.trials:
        t = trial.closeness
        echo(
            f"  ranges by {trial.method}: accuracy {t.gain_points():+.2f} points, KL "
            f"{t.kl_nats:.1e}{' (taken)' if trial.method == report.method else ''}"
        )
    for node in report.nodes:
        where = precision if node.quantized else "float32"
        echo(f"  {node.node}: {where} (alone KL {node.alone.kl_nats:.1e}; {node.reason})")
    if report.tables:
        echo(f"  {report.tables} chains of element-wise operators written as tables")
    echo(
        f"  {precision} against float32: {c.correct_after:,} instead of {c.correct_before:,} right "
        f"of {c.images:,} training images ({report.untrained_images:,} of them held out while "
        f"training), {c.top1_equal:,} predictions identical, largest difference "
        f"{c.max_rel_difference:.2e} of the largest logit"
    )
    verdict = "kept" if report.within_budget else f"EXCEEDED: {report.reason}"
    echo(f"  budget of {report.max_drop_points:g} percentage points: {verdict}")


def fail_on_artifacts(artifacts: "Sequence[Artifact]") -> None:
    """Exit with 1 when a file is not what it should be; why is printed above."""
    if not all(artifact.parity.passed for artifact in artifacts):
        raise click.ClickException("an artifact does not compute what its checkpoint does (above)")
    for artifact in artifacts:
        report = artifact.quantization
        if report and not report.within_budget:
            raise click.ClickException(f"{artifact.path} exceeds its budget: {report.reason}")


def print_image_model(run: "RunDirectory", model: "ImageModel", as_json: bool) -> None:
    """Say where the file with preprocessing inside is; on stderr when stdout holds JSON."""
    echo(
        f"{run.path / model.path}\n"
        f"  uint8 image in, probabilities out; against preprocessing outside, on {model.images:,} "
        f"images: {model.top1_equal:,} predictions identical, largest difference of a probability "
        f"{model.max_difference:.1e}",
        err=as_json,
    )


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
        echo(f"written: {run.path / 'results.json'}, {run.path / 'report.md'}", err=as_json)
    for run in runs:
        echo(f"to look at: {run.path / 'report.html'}", err=as_json)


def fail_loudly(records: "Sequence[Run]") -> None:
    """Exit with 1 when a contender failed; its reason is in the report."""
    fail_on([m for record in records for m in record.measurements])


def fail_on(rows: "Sequence[Measurement | ContenderProfile]") -> None:
    """Exit with 1 when a row failed; its reason is in the report."""
    failed = list(dict.fromkeys(row.contender for row in rows if row.status == "failed"))
    if failed:
        names = ", ".join(failed)
        raise click.ClickException(f"{len(failed)} did not run: {names} (reasons above)")


def print_listing(found: dict[str, dict[str, str]], as_json: bool) -> None:
    """Print every kind's names with one line about each."""
    if as_json:
        print_json(found)
        return
    for kind, entries in found.items():
        echo(f"{kind}:")
        width = max((len(visible(name)) for name in entries), default=0)
        for name, text in entries.items():
            echo(f"  {visible(name):{width}}  {text}")
        if not entries:
            echo("  none yet: bench train NAME makes one")


_STATES = {"fired": "fired", "silent": "SILENT", "not_testable": "not testable here"}


def print_findings(findings: "Sequence[Finding]", as_json: bool) -> None:
    """Print what came of each fault; exit with 1 when a guard stayed silent."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            echo(f"{_STATES[finding.state]:17}  {finding.fault}\n{'':19}{finding.message}")
    silent = [finding.fault for finding in findings if finding.state == "silent"]
    testable = sum(finding.state != "not_testable" for finding in findings)
    if silent:
        raise click.ClickException(
            f"{len(silent)} of {testable} testable guards stayed silent: {'; '.join(silent)}"
        )
    if not as_json:
        untestable = len(findings) - testable
        rest = f", {untestable} not testable here" if untestable else ""
        echo(f"{testable} of {testable} testable guards fired{rest}")


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    click.echo(json.dumps(value, indent=2))

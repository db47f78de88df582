"""Exit codes: which results of a command are a failure. What went wrong is printed before."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from foldbench.bench.predict.prediction import Answer
    from foldbench.bench.records import (
        Artifact,
        ContenderCapacity,
        ContenderProfile,
        Measurement,
        Run,
    )
    from foldbench.bench.records.explanation import ContenderModules
    from foldbench.bench.records.finding import Finding
    from foldbench.bench.remote.places import Elsewhere

WORSE = 3
"""Exit code of `bench diff` when something got worse by more than --fail-on allows."""

UNJUDGED = 4
"""Exit code of `bench diff --fail-on` when it cannot tell whether something got worse."""


def fail_on_artifacts(artifacts: "Sequence[Artifact]") -> None:
    """Exit with 1 when a file is not what it should be."""
    if not all(artifact.parity.passed for artifact in artifacts):
        raise click.ClickException("an artifact does not compute what its checkpoint does (above)")
    for artifact in artifacts:
        report = artifact.quantization
        if report and not report.within_budget:
            raise click.ClickException(f"{artifact.path} exceeds its budget: {report.reason}")


def fail_on_records(records: "Iterable[Run]") -> None:
    """Exit with 1 when a contender failed."""
    fail_on_rows([m for record in records for m in record.measurements])


def fail_on_rows(
    rows: "Iterable[Measurement | ContenderProfile | ContenderModules | ContenderCapacity]",
) -> None:
    """Exit with 1 when a row failed, or when none could be run."""
    rows = list(rows)
    failed = list(dict.fromkeys(row.contender for row in rows if row.status == "failed"))
    if failed:
        names = ", ".join(failed)
        raise click.ClickException(f"{len(failed)} did not run: {names} (reasons above)")
    if rows and not any(row.status == "ok" for row in rows):
        names = ", ".join(dict.fromkeys(row.contender for row in rows))
        raise click.ClickException(f"nothing ran: {names} skipped (reasons above)")


def fail_on_machines(machines: "Sequence[Elsewhere]") -> None:
    """Exit with 1 when a machine gave no record, or a contender failed on one."""
    lost = [machine.place for machine in machines if machine.record is None]
    if lost:
        raise click.ClickException(f"no record of {', '.join(lost)} (reasons above)")
    fail_on_records(machine.record for machine in machines if machine.record)


def fail_on_findings(findings: "Sequence[Finding]") -> None:
    """Exit with 1 when a guard stayed silent."""
    silent = [finding.fault for finding in findings if finding.state == "silent"]
    if silent:
        testable = sum(finding.state != "not_testable" for finding in findings)
        raise click.ClickException(
            f"{len(silent)} of {testable} testable guards stayed silent: {'; '.join(silent)}"
        )


def fail_on_answers(answers: "Sequence[Answer]") -> None:
    """Exit with 1 when an image or a backend failed."""
    failed = sum(bool(a.reason or any(p.reason for p in a.predictions)) for a in answers)
    if failed:
        raise click.ClickException(f"{failed} of {len(answers)} images have no full answer (above)")

"""The command `bench doctor`: whether every guard of the measurement fires."""

from foldbench.bench.cli import output
from foldbench.bench.cli.console import progress
from foldbench.bench.cli.failures import fail_on_findings
from foldbench.bench.cli.help import command
from foldbench.bench.cli.options import json_option


@command(
    examples=(
        "doctor",
        "doctor --json",
    ),
)
@json_option
def doctor(as_json: bool) -> None:
    """Break the measurement on purpose; see that every guard fires.

    Takes about 15 seconds. Exit code 1 when a guard stays silent.
    """
    from foldbench.bench.stages.doctor import FAULTS, run_checks

    findings = []
    with progress() as listener:
        listener.begin("breaking things", len(FAULTS))
        for finding in run_checks():
            findings.append(finding)
            listener.advance(len(findings), finding.fault)
    output.print_findings(findings, as_json)
    fail_on_findings(findings)

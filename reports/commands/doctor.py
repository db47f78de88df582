"""What came of each fault: the text of `bench doctor`."""

from collections.abc import Sequence

from foldbench.bench.records.finding import Finding

_STATES = {"fired": "fired", "silent": "SILENT", "not_testable": "not testable here"}


def render_findings(findings: Sequence[Finding]) -> str:
    """Return each fault and what its guard said, then a count unless a guard stayed silent."""
    lines = [f"{_STATES[one.state]:17}  {one.fault}\n{'':19}{one.message}\n" for one in findings]
    states = [one.state for one in findings]
    if "silent" not in states:
        untestable = states.count("not_testable")
        testable = len(states) - untestable
        rest = f", {untestable} not testable here" if untestable else ""
        lines.append(f"{testable} of {testable} testable guards fired{rest}\n")
    return "".join(lines)

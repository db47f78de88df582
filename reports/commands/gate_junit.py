"""JUnit XML of a gate: a test case for each property, for the places that show test results."""

from xml.etree import ElementTree

from foldbench.bench.analysis.gate import GateResult
from foldbench.reports.commands.gate import describe_check
from foldbench.reports.text.escaping import visible


def render_junit(result: GateResult) -> str:
    """Return one test suite: worse is a failure, what cannot be told a skip or a failure."""
    fails = result.on_unclear == "fail"
    outcomes = [check.outcome for check in result.checks]
    worse, unclear = outcomes.count("worse"), outcomes.count("cannot tell")
    suite = ElementTree.Element(
        "testsuite",
        name="bench gate",
        tests=str(len(outcomes)),
        failures=str(worse + unclear * fails),
        errors="0",
        skipped=str(unclear * (not fails)),
        time=str(round(result.seconds, 3)),
    )
    for check in result.checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname=visible(f"bench gate.{result.head}"), name=check.name
        )
        said = visible(describe_check(check))
        if check.outcome == "worse" or (check.outcome == "cannot tell" and fails):
            ElementTree.SubElement(case, "failure", type=check.outcome, message=said).text = said
        elif check.outcome == "cannot tell":
            ElementTree.SubElement(case, "skipped", message=said)
        else:
            ElementTree.SubElement(case, "system-out").text = said
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, "unicode", xml_declaration=True) + "\n"

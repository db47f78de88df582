"""What a gate says on the terminal, in a job's summary and to trackers."""

import json
from xml.etree import ElementTree

import pytest

from foldbench.bench.analysis.gate import Check, GateResult
from foldbench.reports.commands.gate import gate_json, gate_markdown, render_gate
from foldbench.reports.commands.gate_junit import render_junit
from foldbench.reports.formats.trackers import bencher, github_action_benchmark

LATENCY = Check(
    what="latency",
    outcome="worse",
    allowed=0.02,
    base=1e-3,
    head=1.062e-3,
    change=0.0612,
    low=0.0305,
    high=0.0911,
    smallest=0.0456,
    batch_size=1,
    generations=9,
)
CHECKS = (
    LATENCY,
    Check("latency", "cannot tell", 0.02, 0.05, 0.051, 0.0199, -0.01, 0.05, 0.06, 64, 12),
    Check("accuracy", "not worse", 0.003, 0.889, 0.888, 0.001, smallest=0.0052, reason="10 <&> 0"),
    Check("agreement", "not worse", 0.01, change=0.0005),
    Check("file size", "not worse", 0.05, 65536.0, 65536.0, 0.0),
    Check("peak memory", "not worse", 0.1, 2.0**27, 2.0**27, 0.001, -0.01, 0.01, 0.12),
)


def made(*checks: Check, on_unclear: str = "pass") -> GateResult:
    return GateResult(
        "old <b>.onnx",
        "new|x.onnx",
        checks,
        0.05,
        0.05,
        on_unclear,  # type: ignore[arg-type]
        73.2,
        12,
        24,
    )


RESULT = made(*CHECKS)


def test_the_terminal_shows_every_property_within_twenty_lines() -> None:
    lines = render_gate(RESULT).splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 100
    text = " ".join(lines)
    for check in CHECKS:
        assert check.name in text
    for shown in ("+6.12 %", "+3.05 to +9.11 %", "-0.10 points", "4.56 %", "0.05 % changed"):
        assert shown in text
    assert text.count("HEAD is worse than BASE in latency, batch 1") == 1


def test_markdown_escapes_names_and_holds_the_same_table() -> None:
    text = gate_markdown(RESULT)
    assert "<b>" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(CHECKS)
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1


def test_json_holds_unrounded_figures_and_the_outcome() -> None:
    found = json.loads(json.dumps(gate_json(RESULT)))
    assert (found["outcome"], found["fails"]) == ("worse", True)
    assert found["checks"][0]["low"] == 0.0305
    assert len(found["checks"]) == len(CHECKS)


@pytest.mark.parametrize(("on_unclear", "failures", "skipped"), [("pass", 1, 1), ("fail", 2, 0)])
def test_junit_has_a_case_for_each_property(on_unclear: str, failures: int, skipped: int) -> None:
    (suite,) = ElementTree.fromstring(render_junit(made(*CHECKS, on_unclear=on_unclear)))
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "skipped", "errors")}
    assert counts == {"tests": 6, "failures": failures, "skipped": skipped, "errors": 0}
    assert len(suite.findall("testcase/failure")) == failures
    assert len(suite.findall("testcase/skipped")) == skipped
    assert [case.attrib["name"] for case in suite] == [check.name for check in CHECKS]


def test_github_action_benchmark_takes_entries_of_which_smaller_is_better() -> None:
    entries = github_action_benchmark(RESULT)
    values = {entry["name"]: entry["value"] for entry in entries}
    assert len(values) == len(entries)
    assert values["latency, batch 1"] == pytest.approx(1.062)
    assert values["latency, batch 1 / BASE"] == pytest.approx(1.0612)
    assert values["wrong answers"] == pytest.approx(11.2)
    assert all(isinstance(e["unit"], str) and isinstance(e["value"], float) for e in entries)


def test_bencher_takes_measures_with_bounds_in_its_own_units() -> None:
    found = bencher(RESULT)
    assert found["batch 1"]["latency"]["value"] == pytest.approx(1.062e6)
    ratio = found["batch 1"]["latency-ratio"]
    assert ratio["lower_value"] < ratio["value"] < ratio["upper_value"]
    assert found["network"]["file-size"] == {"value": 65536.0}
    assert found["network"]["accuracy"]["value"] == pytest.approx(88.8)

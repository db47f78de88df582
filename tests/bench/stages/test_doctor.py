"""`bench doctor`: every fault is made for real, and the guard that it is about fires."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from foldbench.bench.cli import cli
from foldbench.bench.cli.output import print_findings
from foldbench.bench.errors import BackendError, ExportError
from foldbench.bench.records.finding import Finding, State
from foldbench.bench.stages import doctor
from foldbench.bench.stages.doctor import Fault, NotTestableError
from foldbench.bench.workers.server import WorkerServer

GUARDS = {
    "asked for cuda, the session fell back to the CPU": (BackendError, "check_provider"),
    "outputs read without synchronising": (BackendError, "WorkerServer.time"),
    "a (simulated) GPU still at work when the clock stops": (BackendError, "check_synchronized"),
    "BatchNorm left in train mode": (BackendError, "TorchSession._check_placement"),
    "colour channels swapped in the exported file": (ExportError, "_refuse_wrong_outputs"),
    "another normalisation in the exported file": (ExportError, "_refuse_wrong_outputs"),
    "the traced batch size baked into the exported file": (
        ExportError,
        "_refuse_what_does_not_run",
    ),
    "empty outputs": (BackendError, "WorkerServer.evaluate"),
    "outputs that are no numbers": (BackendError, "WorkerServer.evaluate"),
    "the same output for every input": (BackendError, "WorkerServer.time"),
    "a busy neighbour while a block is timed": (BackendError, "_refuse_disturbed"),
    "a server that stalls while images go on arriving": (BackendError, "_refuse_late"),
    "calls that keep memory": (BackendError, "_refuse_growing"),
    "sessions that look concurrent and wait for one lock": (BackendError, "refuse_serial"),
    "a cold start in a process that had its runtime loaded": (BackendError, "to_cold_start"),
}


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {finding.fault: finding for finding in doctor.run_checks()}


@pytest.mark.parametrize("fault", doctor.FAULTS, ids=lambda fault: fault.name)
def test_its_own_guard_fires(fault: Fault, findings: dict[str, Finding]) -> None:
    assert (fault.error, fault.guard) == GUARDS[fault.name]
    if findings[fault.name].state == "not_testable":
        pytest.skip(findings[fault.name].message)
    assert findings[fault.name].state == "fired", findings[fault.name].message


@pytest.mark.parametrize(
    ("guard", "names"),
    [
        ("_check", {"outputs read without synchronising", "the same output for every input"}),
        ("evaluate", {"empty outputs", "outputs that are no numbers"}),
    ],
)
def test_without_its_guard_a_fault_stays_silent(
    guard: str, names: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other guard fires in its place and is taken for it."""
    monkeypatch.setattr(doctor, "FAULTS", [f for f in doctor.FAULTS if f.name in names])
    monkeypatch.setattr(WorkerServer, guard, lambda *_: None)
    assert {finding.fault: finding.state for finding in doctor.run_checks()} == dict.fromkeys(
        names, "silent"
    )


def seen(fixture: object) -> None:
    raise BackendError("this one is seen")


def untestable(fixture: object) -> None:
    raise NotTestableError("this system lacks it")


SEEN = Fault("seen", seen, BackendError, "seen")
UNTESTABLE = Fault("untestable", untestable, BackendError, "untestable")


def test_a_guard_that_stays_silent_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = (
        Fault("nothing is raised", lambda fixture: None, BackendError, "<lambda>"),
        replace(SEEN, name="another kind of error", error=ExportError),
        replace(SEEN, name="the error of another guard", guard="WorkerServer.time"),
    )
    monkeypatch.setattr(doctor, "FAULTS", (SEEN, *silent, UNTESTABLE))
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert result.exit_code == 1
    found = {finding["fault"]: finding["state"] for finding in json.loads(result.stdout)}
    assert found == {
        "seen": "fired",
        "nothing is raised": "silent",
        "another kind of error": "silent",
        "the error of another guard": "silent",
        "untestable": "not_testable",
    }
    assert result.stderr.splitlines()[-1].startswith("Error: 3 of 4 ")


@pytest.mark.parametrize(
    ("states", "summary"),
    [
        (("fired", "fired"), "2 of 2 testable guards fired"),
        (("fired", "not_testable"), "1 of 1 testable guards fired, 1 not testable here"),
    ],
)
def test_a_fault_that_cannot_be_made_here_counts_as_neither(
    states: tuple[State, ...], summary: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_findings([Finding(f"fault {n}", s, "said") for n, s in enumerate(states)], False)
    assert capsys.readouterr().out.splitlines()[-1] == summary


def test_without_run_delay_a_busy_neighbour_is_not_testable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uncounted = replace(doctor.read_counters(), run_delay_s=None)
    monkeypatch.setattr(doctor, "read_counters", lambda: uncounted)
    name = "a busy neighbour while a block is timed"
    monkeypatch.setattr(doctor, "FAULTS", [one for one in doctor.FAULTS if one.name == name])
    (finding,) = doctor.run_checks()
    assert (finding.fault, finding.state) == (name, "not_testable")

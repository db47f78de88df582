"""`bench doctor`: every fault is made for real, and every guard fires."""

import json

import pytest
from click.testing import CliRunner

from bench import doctor
from bench.cli import cli
from bench.errors import BackendError


@pytest.fixture(scope="module")
def findings() -> dict[str, doctor.Finding]:
    return {finding.fault: finding for finding in doctor.examine()}


@pytest.mark.parametrize("fault", doctor.FAULTS)
def test_the_guard_against_it_fires(fault: str, findings: dict[str, doctor.Finding]) -> None:
    assert findings[fault].fired
    assert len(findings[fault].said) > 20


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("asked for cuda, the session fell back to the CPU", "holds CPUExecutionProvider"),
        ("outputs read without synchronising", "differs from the one of the accuracy pass"),
        (
            "a (simulated) GPU still at work when the clock stops",
            "went on working for 4000 µs after synchronize() had returned",
        ),
        ("BatchNorm left in train mode", "is in train mode"),
        ("colour channels swapped in the exported file", "outputs are off by"),
        ("empty outputs", "shape (0, 10)"),
    ],
)
def test_it_says_what_is_wrong(fault: str, said: str, findings: dict[str, doctor.Finding]) -> None:
    assert said in findings[fault].said


def test_a_guard_that_stays_silent_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def guarded(patient: object) -> None:
        raise BackendError("this one is seen")

    monkeypatch.setattr(doctor, "FAULTS", {"seen": guarded, "unseen": lambda patient: None})
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "SILENT  unseen" in result.stdout
    assert "1 guards stayed silent: unseen" in result.stderr
    monkeypatch.setattr(doctor, "FAULTS", {"seen": guarded})
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {"fault": "seen", "fired": True, "said": "this one is seen"}
    ]

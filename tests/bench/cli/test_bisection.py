"""`bench bisect`: its options, what it prints, its exit codes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from foldbench.bench.analysis.bisection import Bisected, Part, Tried
from foldbench.bench.analysis.gate import Check

WORSE = Check("latency", "worse", 0.05, 1e-3, 1.2e-3, 0.2, 0.15, 0.25, 0.07, 1, 3)
SAME = replace(WORSE, outcome="not worse", head=1.01e-3, change=0.01, low=-0.02, high=0.03)
UNCLEAR = replace(WORSE, outcome="cannot tell", reason="BASE differs from itself by +4.0 %")
HIT = Bisected(
    subject="net.onnx",
    runtime="ort",
    question="latency",
    allowed=0.05,
    versions=("1.20.0", "1.21.0", "1.22.0", "1.23.0", "1.24.0"),
    base="1.20.0",
    good="1.21.0",
    bad="1.23.0",
    tried=(
        Tried("1.24.0", WORSE),
        Tried("1.22.0", reason="no wheel"),
        Tried("1.23.0", WORSE),
        Tried("1.21.0", SAME),
    ),
    error=0.05,
    on_unclear="pass",
    seconds=75.0,
    environment={"cpu": "AMD EPYC", "cores_usable": 2, "os": "Linux", "python": "3.11"},
)
NONE = replace(HIT, good="1.24.0", bad=None, tried=(Tried("1.24.0", SAME),))
OPEN = replace(HIT, good="1.20.0", bad=None, tried=(Tried("1.24.0", UNCLEAR),))
ARGUMENTS = ("bisect", "net.onnx", "ort", "1.20..1.24")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[Bisected], None]:
    """Have the command find what is given."""

    def put(result: Bisected) -> None:
        stage = "foldbench.bench.stages.bisection.bisect"
        monkeypatch.setattr(stage, lambda *arguments: result)

    return put


@pytest.mark.parametrize(
    ("result", "code", "outcome", "between"),
    [
        (HIT, 3, "worse", ["1.22.0"]),
        (NONE, 0, "not worse", []),
        (OPEN, 0, "cannot tell", []),
        (replace(OPEN, on_unclear="fail"), 4, "cannot tell", []),
    ],
)
def test_the_exit_code_is_that_of_a_gate_and_json_has_everything(
    bench: Callable, found: Callable, result: Bisected, code: int, outcome: str, between: list[str]
) -> None:
    found(result)
    done = bench(*ARGUMENTS, "--slower", "5%", "--json")
    assert done.exit_code == code
    told = json.loads(done.stdout)
    assert (told["outcome"], told["between"]) == (outcome, between)
    assert len(told["tried"]) == len(result.tried)


def test_the_report_names_the_version_and_each_that_was_tried_or_skipped(
    bench: Callable, found: Callable, tmp_path: Path
) -> None:
    part = Part(str(tmp_path), "1.21.0", "1.23.0", 2, 40, ("Conv", "Relu"), WORSE)
    found(replace(HIT, part=part))
    done = bench(*ARGUMENTS, "--slower", "5%")
    first = done.stdout.split("\n", 2)[2]
    assert first.startswith("ort 1.23.0 ")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("1.2")}
    assert set(rows) == {"1.21.0", "1.23.0", "1.24.0"}
    assert "+20.00 %" in rows["1.23.0"]
    assert "1.22.0 was skipped: no wheel" in done.stdout
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "onnxruntime==1.21.0" in readme
    assert "onnxruntime==1.23.0" in readme


@pytest.mark.parametrize(
    "options",
    [(), ("--slower", "5%", "--memory", "5%"), ("--slower", "0%"), ("--slower", "0.5")],
)
def test_one_limit_has_to_be_given(bench: Callable, options: tuple[str, ...]) -> None:
    assert bench(*ARGUMENTS, *options).exit_code == 2

"""The operating curve: its networks, its order of tries, its table."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import operating_curve as curve
from foldbench.exporters.onnx_session import open_session


def test_the_work_that_is_added_changes_no_answer_and_is_not_optimised_away() -> None:
    images = np.random.default_rng(0).random((2, 3, curve.SIZE, curve.SIZE), np.float32)
    plain, slower = (open_session(curve.network(added)) for added in (0, 3))
    first, second = (s.run(None, {"images": images})[0] for s in (plain, slower))
    assert first.shape == (2, curve.CLASSES)
    np.testing.assert_array_equal(first, second)
    assert len(curve.network(0)) < len(curve.network(1)) < len(curve.network(3))
    assert curve.network(3) == curve.network(3)


def gate_of(
    outcome: str, change: float = 0.0, wall_s: float = 60.0, smallest: float | None = 0.04
) -> dict:
    latency = {
        "what": "latency",
        "outcome": outcome,
        "change": change,
        "low": None,
        "high": None,
        "smallest": smallest,
        "generations": 9,
        "reason": None,
    }
    return {
        "checks": [latency],
        "outcome": outcome,
        "processes": 9,
        "most": 24,
        "wall_s": wall_s,
    }


def test_tries_take_turns_until_all_are_made() -> None:
    wanted, lines = {"identical": 4, "slower": 2}, []
    while (kind := curve.next_kind(lines, wanted)) is not None:
        lines.append({"kind": kind})
    kinds = [line["kind"] for line in lines]
    assert {kind: kinds.count(kind) for kind in wanted} == wanted
    assert set(kinds[:2]) == {"identical", "slower"}


def tries_on(machine: str, *tries: dict) -> list[dict]:
    calibration = {"kind": "calibration", "added": 5, "measured": 0.05}
    return [{"machine": machine, **line} for line in (calibration, *tries)]


def test_the_table_counts_outcomes_and_those_in_time() -> None:
    lines = tries_on(
        "a",
        curve.line_of("identical", gate_of("not worse")),
        curve.line_of("identical", gate_of("worse")),
        curve.line_of("slower", gate_of("worse", 0.05, 200.0)),
        curve.line_of("slower", gate_of("worse", 0.05, 100.0, None)),
        curve.line_of("slower", gate_of("cannot tell")),
    )
    identical, slower = curve.summarise(lines)
    assert identical[:3] == ["identical", "1", "2"]
    assert identical[3].startswith("1 (")
    assert identical[4:7] == ["1", "0", "1"]
    assert slower[3].startswith("2 (")
    assert slower[4:7] == ["0", "1", "1"]
    assert slower[7:9] == ["+5.0 %", "100 s"]
    assert len(slower) == len(curve.HEADERS)


def test_tries_on_several_machines_are_counted_by_machine_and_together() -> None:
    identical = [curve.line_of("identical", gate_of(o)) for o in ("not worse", "worse")]
    lines = tries_on("a", *identical) + tries_on("b", *identical[:1])
    counts = [row[:4] for row in curve.summarise(lines)]
    assert [row[:3] for row in counts] == [
        ["identical", "1", "2"],
        ["identical", "2", "1"],
        ["identical", "all", "3"],
    ]
    assert [row[3].split()[0] for row in counts] == ["1", "0", "1"]


def test_a_machine_is_calibrated_once_and_tries_resume_on_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    calibrated: list[str] = []

    def calibrate(folder, options) -> dict:
        calibrated.append(curve.name_machine())
        return {"kind": "calibration", "added": len(calibrated), "measured": 0.05}

    monkeypatch.setattr(curve, "calibrate", calibrate)
    monkeypatch.setattr(curve, "run_gate", lambda base, head, options: gate_of("not worse"))
    for machine, tries in (("a", 2), ("a", 3), ("b", 4)):
        monkeypatch.setattr(curve, "name_machine", lambda named=machine: named)
        arguments = ["--tries", str(tries), "--out", str(tmp_path)]
        assert CliRunner().invoke(curve.main, arguments, catch_exceptions=False).exit_code == 0
    assert calibrated == ["a", "b"]
    _, *lines = map(json.loads, (tmp_path / "operating_curve.jsonl").read_text().splitlines())
    made = [line["machine"] for line in lines if line["kind"] == "identical"]
    assert made == ["a", "a", "a", "b"]
    assert "2. b; 2 convolutions" in (tmp_path / "operating_curve.md").read_text()


@pytest.mark.parametrize("each", [0.002, 0.011])
def test_the_size_of_what_is_added_is_found_from_the_times_of_two_tries(
    each: float, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    made: list[int] = []
    monkeypatch.setattr(curve, "network", lambda added: b"%d" % added)

    def gate(base, head, options) -> dict:
        made.append(int(head.read_bytes()))
        return gate_of("worse", each * made[-1] + 0.004)

    monkeypatch.setattr(curve, "run_gate", gate)
    found = curve.calibrate(tmp_path, ())
    assert abs(found["measured"] - curve.SLOWER) < each
    assert len(made) <= 4

"""The benchmarks of the harness itself run, and store every figure that they print."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import harness_overhead


def test_the_overhead_is_the_difference_of_the_two_loops_on_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness_overhead, "STEPS_S", (0.0, 2e-3))
    monkeypatch.setattr(harness_overhead.gc, "freeze", lambda: None)
    done = CliRunner().invoke(harness_overhead.main, ["--pairs", "2", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "harness_overhead.json").read_text(encoding="utf-8"))
    assert [step["step_s"] for step in stored["steps"]] == [0.0, 2e-3]
    for step in stored["steps"]:
        assert len(step["pairs"]) == 2
        for pair in step["pairs"]:
            assert min(pair["ours_s"], pair["bare_s"]) >= step["step_s"]
            assert pair["between_s"] > 0
    text = (tmp_path / "harness_overhead.md").read_text(encoding="utf-8")
    assert text in done.output
    clean = sum(pair["clean"] for pair in stored["steps"][1]["pairs"])
    assert f"{clean} of 2" in text

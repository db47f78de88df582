"""The GitHub action: its steps, run with a command in the place of bench."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from foldbench.bench.cli import cli

ROOT = Path(__file__).parents[2]
ACTION = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
GATE = next(step for step in STEPS if step.get("id") == "gate")
INPUTS = {
    "base": "main:net.yaml",
    "head": "my net.onnx",
    "args": "--max-slower 5% --on-unclear fail",
    "junit": "j.xml",
    "bencher": "b.json",
    "benchmark-action": "a.json",
}


def run_gate(folder: Path, code: int) -> tuple[int, str, list[str]]:
    """Return the step's exit code, its outputs, and the arguments that bench was given."""
    fake = folder / "bench"
    fake.write_text(f'#!/bin/sh\nfor a; do echo "$a"; done > given\nexit {code}\n')
    fake.chmod(0o755)
    variables = {
        name: INPUTS[re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", value)[1]]  # type: ignore[index]
        for name, value in GATE["env"].items()
    }
    environment = {**os.environ, **variables, "GITHUB_OUTPUT": str(folder / "output")}
    environment["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", GATE["run"]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    given = (folder / "given").read_text().splitlines()
    return done.returncode, (folder / "output").read_text().strip(), given


@pytest.mark.parametrize(
    ("code", "outcome"), [(0, "passed"), (3, "worse"), (4, "unclear"), (1, "error"), (2, "error")]
)
def test_the_step_ends_as_bench_gate_does_and_says_how(
    tmp_path: Path, code: int, outcome: str
) -> None:
    assert run_gate(tmp_path, code)[:2] == (code, f"outcome={outcome}")


def test_what_it_calls_is_a_command_line_that_bench_takes(tmp_path: Path) -> None:
    given = run_gate(tmp_path, 0)[2]
    assert given[:3] == ["gate", "main:net.yaml", "my net.onnx"]
    assert CliRunner().invoke(cli, [*given, "--help"]).exit_code == 0
    context = cli.make_context("bench", list(given))
    name, command, rest = cli.resolve_command(context, given)
    assert command is not None
    found = command.make_context(name, rest, parent=context).params
    assert found["gate__max_slower"] == 0.05
    assert found["gate__on_unclear"] == "fail"
    assert [str(found[name]) for name in ("junit", "bencher", "action")] == [
        "j.xml",
        "b.json",
        "a.json",
    ]


def test_no_input_is_pasted_into_a_script_and_each_is_used() -> None:
    text = json.dumps(STEPS)
    assert not any("${{" in step.get("run", "") for step in STEPS)
    for name in ACTION["inputs"]:
        assert f"inputs.{name}" in text, name
    assert all(step.get("shell") == "bash" for step in STEPS if "run" in step)
    assert ACTION["outputs"]["outcome"]["value"] == "${{ steps.gate.outputs.outcome }}"

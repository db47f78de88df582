"""What the processes that wait do: every way is timed by every contender, and the table."""

import random
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import idle_processes as study
from foldbench.bench.samples.timing import Block
from foldbench.bench.store.directory import RunDirectory


def block(seconds: float, run_delay_ratio: float = 0.0) -> Block:
    return Block(
        run_delay_ratio=run_delay_ratio,
        cpu_ratio=1.0,
        pressure_ratio=None,
        steal_ratio=None,
        samples_s=(seconds,) * 5,
    )


def test_the_table_counts_disturbed_rounds_and_excludes_them_from_the_spread() -> None:
    rounds = [
        {"torch/unfolded": block(0.004), "ort/folded": block(0.002)},
        {"torch/unfolded": block(0.004), "ort/folded": block(0.002)},
        {"torch/unfolded": block(0.004), "ort/folded": block(0.4, 0.5)},
        {"torch/unfolded": block(0.04, 0.5), "ort/folded": block(0.002)},
    ]
    subject, base = study.table_of({study.Way(True, 0.02): rounds})
    assert base == ["stopped", "20 ms", "torch/unfolded", "25 %", "", ""]
    assert subject == ["stopped", "20 ms", "ort/folded", "25 %", "2.000", "0.0 %"]
    assert len(subject) == len(study.HEADERS)


def test_the_four_ways_take_turns_in_every_process(
    own_exported_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("stops processes with Linux's signals")
    monkeypatch.setattr(study, "BLOCK_S", 0.0)
    found = study.time_generation(own_exported_run, 1, random.Random(0))
    assert set(found) == set(study.WAYS)
    for rounds in found.values():
        assert len(rounds) == 2
        assert all(set(made) == set(rounds[0]) for made in rounds)
        assert {"torch/unfolded", "ort/folded"} <= set(rounds[0])
    monkeypatch.setattr(study, "time_generation", lambda *_: found)
    arguments = [own_exported_run.name, "--runs", str(own_exported_run.path.parent)]
    arguments += ["--out", str(tmp_path)]
    done = CliRunner().invoke(study.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert (tmp_path / "idle_processes.md").read_text() in done.output

"""Commands that are killed at any moment, with the next one going on as if nothing had been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import foldbench
from builders import QUICK
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.files import file_sha256

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

_LONGEST_S = 900
"""A hang is longer, on a machine that does other things, too."""
SETTINGS = (*QUICK, "train.epochs=3", "train.threads=1", "compare.backends=[torch]")
COMMANDS = {
    "train": ["train", "digits", *(part for setting in SETTINGS for part in ("--set", setting))],
    "export": ["export"],
    "compare": ["compare"],
}


@dataclass(frozen=True)
class Place:
    """Where one chain of commands has its runs, its cache and its temporary files."""

    folder: Path

    def start(self, command: str) -> "subprocess.Popen[str]":
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        given = {
            **os.environ,
            "PYTHONPATH": str(Path(foldbench.__file__).parents[1]),
            "FOLDBENCH_RUNS": str(self.folder / "runs"),
            "FOLDBENCH_CACHE": str(self.folder / "cache"),
            "TMPDIR": str(self.folder / "tmp"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "foldbench", *COMMANDS[command]],
            env=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, command: str) -> float:
        """Run a command to its end; return its seconds."""
        started = time.monotonic()
        process = self.start(command)
        _, err = process.communicate(timeout=_LONGEST_S)
        assert process.returncode == 0, err
        return time.monotonic() - started

    def kill(self, command: str, after_s: float, number: int) -> None:
        """Send a signal to a command some time after its start; wait for all its processes."""
        process = self.start(command)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=after_s)
        workers = []
        if process.poll() is None:
            workers = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
        _, err = process.communicate(timeout=_LONGEST_S)
        assert "Traceback" not in err
        _, alive = psutil.wait_procs(workers, timeout=15)
        assert not alive

    def check(self) -> RunDirectory:
        """Every file is whole and nothing else is there; return the run."""
        (run,) = (RunDirectory(path) for path in (self.folder / "runs").glob("digits-*"))
        for path in run.path.rglob("*.json"):
            json.loads(path.read_text())
        assert run.checkpoint().sha256 == file_sha256(run.path / "weights.safetensors")
        assert run.results()
        assert not list((self.folder / "runs").rglob(".foldbench-*"))
        assert not list((self.folder / "tmp").glob("foldbench-*"))
        return run


def chain(place: Place, moments: dict[str, list[tuple[float, int]]]) -> RunDirectory:
    """Kill each command at its moments (seconds and signal), then run it to its end."""
    for command in COMMANDS:
        for after_s, number in moments.get(command, ()):
            place.kill(command, after_s, number)
        place.finish(command)
    return place.check()


@pytest.mark.slow
def test_a_kill_in_each_command_is_made_good_by_the_next_one(tmp_path: Path) -> None:
    drawn = random.Random(0)
    moments = {
        "train": [(drawn.uniform(2, 6), signal.SIGKILL)],
        "export": [(drawn.uniform(2, 6), signal.SIGKILL)],
        "compare": [(drawn.uniform(2, 8), signal.SIGHUP)],
    }
    chain(Place(tmp_path), moments)


@pytest.mark.slow
def test_kills_at_twenty_moments_leave_the_same_network(tmp_path: Path) -> None:
    whole = Place(tmp_path / "whole")
    lasts_s = {command: whole.finish(command) for command in COMMANDS}
    expected = file_sha256(whole.check().path / "weights.safetensors")
    drawn = random.Random(1)
    signals = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    for number in range(4):  # five kills each
        moments: dict[str, list[tuple[float, int]]] = {}
        for sent in signals:
            command = drawn.choice(list(COMMANDS))
            moments.setdefault(command, []).append((drawn.uniform(0, lasts_s[command]), sent))
        run = chain(Place(tmp_path / str(number)), moments)
        assert file_sha256(run.path / "weights.safetensors") == expected

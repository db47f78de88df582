"""Commands that are killed at any moment, with the next one going on as if nothing had been."""

import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import killed_commands
from builders import QUICK
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.files import file_sha256
from foldbench.bench.workers.starting import start

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals"),
    pytest.mark.usefixtures("warm_start"),
]

_LONGEST_S = 120
"""A hang is longer."""
SETTINGS = (*QUICK, "train.epochs=2", "train.threads=1", "compare.backends=[torch]")
COMMANDS = {
    "train": ["train", "digits", *(part for setting in SETTINGS for part in ("--set", setting))],
    "export": ["export"],
    "compare": ["compare"],
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@dataclass(frozen=True)
class Place:
    """Where one chain of commands has its runs, its cache and its temporary files."""

    folder: Path

    def finish(self, command: str) -> int:
        """Run a command to its end; return how many moments it has."""
        code, moments = self._run(command)
        assert code == 0, self.log
        return moments

    def kill(self, command: str, number: int, at: int) -> bool:
        """Have a command sent a signal at one of its moments; wait for all its processes.

        Return whether it was reached: what was finished before a kill is not done again.
        """
        code, _ = self._run(command, number, at)
        assert "Traceback" not in self.log
        return code != 0

    @property
    def log(self) -> str:
        """What the last command printed."""
        return (self.folder / killed_commands.LOG).read_text(encoding="utf-8")

    def _run(self, command: str, number: int = 0, at: int | None = None) -> tuple[int, int]:
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        process = start(killed_commands.run, self.folder, COMMANDS[command], number, at)
        try:
            code = process.join(_LONGEST_S)
            assert code is not None, f"{command} hangs: {self.log}"
            moments = process.connection.recv() if process.connection.poll() else 0
        except EOFError:
            moments = 0
        finally:
            process.kill()
            process.close()
        until_s = time.monotonic() + 15
        while alive := self._processes():
            assert time.monotonic() < until_s, alive
            time.sleep(0.05)
        return code, moments

    def _processes(self) -> list[psutil.Process]:
        here = str(self.folder)
        return [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == here]

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


@dataclass(frozen=True)
class Whole:
    """The commands, when nothing disturbs them."""

    moments: Mapping[str, int]
    weights_sha256: str


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, warm_start: None) -> Whole:
    place = Place(tmp_path_factory.mktemp("whole"))
    moments = {command: place.finish(command) for command in COMMANDS}
    return Whole(moments, file_sha256(place.check().path / "weights.safetensors"))


def chain(place: Place, kills: Mapping[str, Sequence[tuple[int, int]]], whole: Whole) -> int:
    """Kill each command as drawn (signal and moment), then run it to its end; return the kills."""
    reached = 0
    for command in COMMANDS:
        for number, at in kills[command]:
            reached += place.kill(command, number, at)
        place.finish(command)
    assert file_sha256(place.check().path / "weights.safetensors") == whole.weights_sha256
    return reached


def test_a_kill_in_each_command_is_made_good_by_the_next_one(tmp_path: Path, whole: Whole) -> None:
    drawn = random.Random(0)
    kills = {
        command: [(number, drawn.randint(1, whole.moments[command]))]
        for command, number in zip(COMMANDS, SIGNALS[1:], strict=False)
    }
    assert chain(Place(tmp_path), kills, whole) == 3


@pytest.mark.slow
def test_kills_at_twenty_moments_leave_the_same_network(tmp_path: Path, whole: Whole) -> None:
    drawn, reached = random.Random(1), 0
    for number in range(4):  # five kills each
        kills = defaultdict(list)
        for sent in SIGNALS:
            command = drawn.choice(list(COMMANDS))
            kills[command].append((sent, drawn.randint(1, whole.moments[command])))
        reached += chain(Place(tmp_path / str(number)), kills, whole)
    assert reached >= 15

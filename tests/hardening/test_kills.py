"""Commands that are killed at any moment, with the next one going on as if nothing had been."""

import json
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

import killed_commands
from builders import QUICK
from foldbench.bench.store.directory import RunDirectory
from foldbench.bench.store.files import file_sha256
from foldbench.bench.workers.starting import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs forks of one server")

_LONGEST_S = 120
"""A hang is longer."""
_FEWEST = 12
"""Moments that every command has at least."""
SETTINGS = (
    *QUICK,
    "train.epochs=2",
    "train.batch_size=64",
    "train.threads=1",
    "data.name=imagefolder",
    "export.images=8",
    "compare.backends=[torch]",
    "compare.batch_sizes=[1]",
    "compare.threads=1",
)
COMMANDS = {
    "train": [
        "train",
        "digits",
        "--data",
        "images",
        *(part for setting in SETTINGS for part in ("--set", setting)),
    ],
    "export": ["export"],
    "compare": ["compare"],
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


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

    def prepare(self) -> None:
        """Write the images and make the folder of temporary files."""
        random = np.random.default_rng(0)
        for place, count in (("train/a", 60), ("train/b", 60), ("test/a", 9), ("test/b", 9)):
            (self.folder / "images" / place).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 200, (8, 8, 3)) + 50 * place.endswith("b")
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture.save(self.folder / "images" / place / f"{number}.png")
        (self.folder / "tmp").mkdir()

    def _run(self, command: str, number: int = 0, at: int | None = None) -> tuple[int, int]:
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
        assert not list(self.folder.rglob(".foldbench-*"))
        assert not list((self.folder / "tmp").glob("foldbench-*"))
        return run


Kills = Mapping[str, Sequence[tuple[int, int]]]
"""Signal and moment of each kill, by command."""


def chain(place: Place, kills: Kills) -> tuple[str, list[str]]:
    """Kill each command as drawn, then run it to its end.

    Return the sha256 of the weights, and what was printed where a kill was not reached.
    """
    place.prepare()
    missed = []
    for command in COMMANDS:
        for number, at in kills[command]:
            if not place.kill(command, number, at):
                missed.append(f"{command}, {signal.Signals(number).name} at {at}: {place.log}")
        place.finish(command)
    return file_sha256(place.check().path / "weights.safetensors"), missed


def test_a_kill_in_each_command_is_made_good_by_the_next_one(tmp_path: Path) -> None:
    drawn = random.Random(0)
    kills = {
        command: [(number, drawn.randint(1, _FEWEST))]
        for command, number in zip(COMMANDS, SIGNALS, strict=False)
    }
    _, missed = chain(Place(tmp_path), kills)
    assert missed == []


@dataclass(frozen=True)
class Undisturbed:
    """What the commands come to when nothing is killed."""

    moments: Mapping[str, int]
    weights_sha256: str


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    place.prepare()
    moments = {command: place.finish(command) for command in COMMANDS}
    return Undisturbed(moments, file_sha256(place.check().path / "weights.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_kills_at_seven_moments_leave_the_same_network(
    seed: int, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    assert min(undisturbed.moments.values()) >= _FEWEST
    drawn, kills = random.Random(seed), defaultdict(list)
    for sent in (*SIGNALS, *3 * (signal.SIGKILL,)):
        command = drawn.choice(list(COMMANDS))
        kills[command].append((sent, drawn.randint(1, undisturbed.moments[command])))
    for moments in kills.values():  # what is resumed has fewer moments
        moments.sort(key=lambda kill: -kill[1])
    weights_sha256, missed = chain(Place(tmp_path), kills)
    assert weights_sha256 == undisturbed.weights_sha256
    assert len(missed) < sum(map(len, kills.values()))

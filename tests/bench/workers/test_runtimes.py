"""Environments with other versions of a runtime: whole or not there, one line where they fail."""

from pathlib import Path

import pytest

from foldbench.bench.errors import BackendError
from foldbench.bench.workers import runtimes
from foldbench.bench.workers.runtimes import (
    explain_failure,
    find_environment,
    prepare_runtime,
    python_of,
)


class Installer:
    """Stands for venv, pip and the trial import; `fails` names a text of the command to fail at."""

    def __init__(self, fails: str = "", times: int = 99) -> None:
        self.fails, self.times = fails, times
        self.commands: list[str] = []

    def __call__(self, command: list[str], *arguments: str) -> None:
        text = " ".join([*map(str, command), *arguments])
        self.commands.append(text)
        if "venv" in command:
            python = python_of(Path(arguments[0]))
            python.parent.mkdir(parents=True)
            python.touch()
        if self.fails and self.fails in text and self.times:
            self.times -= 1
            raise BackendError("no")


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> Installer:
    made = Installer()
    monkeypatch.setattr(runtimes, "_run", made)
    monkeypatch.setattr(runtimes.shutil, "which", lambda name: None)
    return made


def test_an_environment_is_made_once(tmp_path: Path, installer: Installer) -> None:
    first = prepare_runtime("onnxruntime", "1.23.2", tmp_path)
    made = len(installer.commands)
    assert first.is_file()
    assert prepare_runtime("onnxruntime", "1.23.2", tmp_path, offline=True) == first
    assert len(installer.commands) == made


def test_offline_refuses_to_fetch_what_is_not_there(tmp_path: Path, installer: Installer) -> None:
    with pytest.raises(BackendError, match="--offline"):
        prepare_runtime("onnxruntime", "1.23.2", tmp_path, offline=True)
    assert installer.commands == []


@pytest.mark.parametrize("step", ["pip", "import numpy"])
def test_what_fails_halfway_leaves_nothing_and_the_next_try_heals_it(
    tmp_path: Path, installer: Installer, step: str
) -> None:
    installer.fails = step
    with pytest.raises(BackendError, match="no"):
        prepare_runtime("onnxruntime", "1.23.2", tmp_path)
    left = [path.name for path in (tmp_path / "runtimes").rglob("*")]
    assert all(name.startswith((".lock", ".onnxruntime-1.23.2-")) for name in left)
    installer.fails = ""
    assert prepare_runtime("onnxruntime", "1.23.2", tmp_path).is_file()


def test_an_environment_whose_python_has_gone_is_made_anew(
    tmp_path: Path, installer: Installer
) -> None:
    left = find_environment("onnxruntime", "1.23.2", tmp_path) / "lib"
    left.mkdir(parents=True)
    assert prepare_runtime("onnxruntime", "1.23.2", tmp_path).is_file()
    assert not left.exists()


def test_a_runtime_that_breaks_with_numpy_2_gets_numpy_1(
    tmp_path: Path, installer: Installer
) -> None:
    installer.fails, installer.times = "import numpy", 1
    prepare_runtime("onnxruntime", "1.16.3", tmp_path)
    assert [c.rpartition(" ")[2] for c in installer.commands if "pip" in c] == ["numpy", "numpy<2"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("ERROR: Could not find a version (from versions: 1.30.0, 1.31.1)\nERROR: x", "1.31.1"),
        ("ERROR: Could not find a version (from versions: none)", "network"),
        ("x No solution found:\n  Because there is no version of a==9 and you", "there is no"),
        ("error: Failed to fetch: `https://...`", "network"),
        ("ERROR: OSError: [Errno 28] No space left on device", "no space left"),
        ("warning\nERROR: something else\n", "something else"),
        ("", "said nothing"),
    ],
)
def test_a_failed_installation_is_told_in_one_line(output: str, expected: str) -> None:
    told = explain_failure(output, ("onnxruntime==9",))
    assert expected in told
    assert "\n" not in told

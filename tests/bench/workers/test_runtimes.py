"""Environments with other versions of a runtime: whole or not there, one line where they fail."""

import shutil
import sys
from pathlib import Path

import pytest
from fake_runtimes import make_runtime

from foldbench.bench.errors import BackendError
from foldbench.bench.workers import runtimes
from foldbench.bench.workers.runtimes import (
    explain_failure,
    find_environment,
    list_versions,
    prepare_runtime,
    python_of,
    within,
)


class Installer:
    """Stands for venv, pip and the trial import; `fails` names a text of the command to fail at."""

    def __init__(self, fails: str = "", times: int = 99) -> None:
        self.fails, self.times = fails, times
        self.commands: list[str] = []
        self.said = ""

    def __call__(self, command: list[str], *arguments: str, doing: str = "") -> str:
        text = " ".join([*map(str, command), *arguments])
        self.commands.append(text)
        if "venv" in command:
            python = python_of(Path(arguments[0]))
            number = f"python{sys.version_info.major}.{sys.version_info.minor}"
            module = Path(arguments[0], "lib", number, "site-packages", "onnxruntime/__init__.py")
            for file in (python, module):
                file.parent.mkdir(parents=True)
                file.touch()
        if self.fails and self.fails in text and self.times:
            self.times -= 1
            raise BackendError("no")
        return self.said


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> Installer:
    made = Installer()
    monkeypatch.setattr(runtimes, "run_program", made)
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


@pytest.mark.parametrize("lost", ["python", "runtime"])
def test_an_environment_that_is_not_whole_is_made_anew(
    tmp_path: Path, installer: Installer, lost: str
) -> None:
    made = make_runtime(tmp_path, "1.23.2")
    assert prepare_runtime("onnxruntime", "1.23.2", tmp_path) == python_of(made)
    assert installer.commands == []
    if lost == "python":
        python_of(made).unlink()
    else:
        shutil.rmtree(next(made.rglob("onnxruntime")))
    left = made / "pyvenv.cfg"
    assert left.exists()
    assert prepare_runtime("onnxruntime", "1.23.2", tmp_path).is_file()
    assert not left.exists()


def test_versions_are_those_of_the_index_and_of_the_cache_in_order(
    tmp_path: Path, installer: Installer
) -> None:
    installer.said = "onnxruntime (1.31.1)\nAvailable versions: 1.31.1, 1.9.0, 1.20.0rc1, 1.20.0\n"
    make_runtime(tmp_path, "1.10.0")
    python_of(make_runtime(tmp_path, "1.11.0")).unlink()
    (find_environment("onnxruntime", "1.12.0", tmp_path)).mkdir()
    find_environment("onnxruntime-gpu", "1.13.0", tmp_path).mkdir()
    found = list_versions("onnxruntime", tmp_path)
    assert found == ("1.9.0", "1.10.0", "1.20.0", "1.31.1")
    assert len(installer.commands) == 1
    assert list_versions("onnxruntime", tmp_path, offline=True) == ("1.10.0",)
    assert len(installer.commands) == 1


def test_a_range_holds_both_of_its_ends_with_all_that_begins_like_them() -> None:
    known = ("1.9.0", "1.20.0", "1.20.1", "1.21.0", "1.31.0", "1.31.1", "1.32.0", "2.0.0")
    assert within(known, "1.20", "1.31") == known[1:6]
    assert within(known, "1.20.1", "1.31.0") == known[2:5]
    assert within(known, "1", "1") == known[:7]


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
        ("WARNING: Retrying\nERROR: No matching distribution found for onnxruntime", "network"),
        ("x No solution found:\n  Because there is no version of a==9 and you", "there is no"),
        ("error: Failed to fetch: `https://...`", "network"),
        ("ERROR: OSError: [Errno 28] No space left on device", "no space left"),
        ("warning\nERROR: something else\n", "something else"),
        ("", "said nothing"),
    ],
)
def test_a_failed_installation_is_told_in_one_line(output: str, expected: str) -> None:
    told = explain_failure(output, "onnxruntime==9")
    assert expected in told
    assert "\n" not in told

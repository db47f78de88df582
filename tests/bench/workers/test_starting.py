"""Processes start as a module of ours: the user's script is not run again, and nothing leaks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import isolated_calls
from foldbench.bench.errors import BackendError
from foldbench.bench.workers.protocol import Failure
from foldbench.bench.workers.starting import start

TESTS = Path(isolated_calls.__file__).parent
ROOT = TESTS.parent
CALL = """
import sys
sys.path += {path!r}
from foldbench.bench.workers.isolated import run_isolated
from isolated_calls import double
print("ran", run_isolated(double, 21))
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    """A script without ``if __name__ == "__main__"`` that makes a call in a process of its own."""
    return CALL.format(path=[str(ROOT), str(TESTS)])


def run(*command: str, cwd: Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        env=environment | more,
        timeout=60,
    )


def test_a_script_without_a_guard_runs_once(script: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(script)
    done = run("script.py", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("ran 42\n", 0), done.stderr
    assert done.stderr == "printed by the call\nwritten by the call\n" or set(
        done.stderr.splitlines()
    ) == {"printed by the call", "written by the call"}


def test_a_program_on_stdin_works_as_a_cell_of_a_notebook_does(script: str, tmp_path: Path) -> None:
    done = run("-", cwd=tmp_path, stdin=script)
    assert (done.stdout, done.returncode) == ("ran 42\n", 0), done.stderr


@pytest.mark.parametrize("flags", [[], ["-P"], ["-I"], ["-W", "error"]])
def test_nothing_of_the_current_folder_is_imported(
    flags: list[str], script: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    script += "import os; print(os.getpid())\n"
    for name in ("signal", "socket", "queue", "numpy", "selectors", "bench", "models", "foldbench"):
        text = f"import os; open({str(trace)!r}, 'a').write('{name} ' + str(os.getpid()))"
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "script.py").write_text(script)
    done = run(*flags, "bin/script.py", cwd=tmp_path)
    assert done.stdout.startswith("ran 42\n"), done.stderr
    assert not trace.exists()


def describe() -> dict[str, object]:
    process = start(isolated_calls.describe)
    try:
        found: dict[str, object] = process.connection.recv()
        return found
    finally:
        process.close()


def test_a_process_has_the_path_of_its_parent_and_none_of_its_arguments() -> None:
    found = describe()
    assert set(found["path"]) >= {place for place in sys.path if place}  # type: ignore[call-overload]
    assert found["arguments"] == [""]
    assert found["main"] is None
    assert (found["safe"], found["interrupt"], found["stdin"]) == (True, True, "")


def test_the_folder_of_the_script_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *(place for place in sys.path if place)])
    if not sys.flags.safe_path:
        assert describe()["path"][-1] == str(tmp_path)  # type: ignore[index]


def test_what_goes_wrong_is_a_line_and_not_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    process = start(isolated_calls.stumble, "two\nlines")
    assert process.connection.recv() == Failure("ValueError: two lines")
    assert process.join(20) == 1
    process.close()
    missing = start(isolated_calls.stumble)
    assert missing.cause_of_death().startswith("TypeError")
    missing.close()
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_sent_starts_nothing_that_stays() -> None:
    with pytest.raises(Exception, match="pickle"):
        start(lambda connection: None)


def test_the_cause_of_death_names_the_signal() -> None:
    process = start(isolated_calls.sleep)
    os.kill(process.connection.recv(), signal.SIGSEGV)
    assert process.cause_of_death() == "its process was ended by SIGSEGV"
    process.close()
    process = start(isolated_calls.sleep)
    process.connection.recv()
    process.kill()
    assert "SIGKILL: out of memory?" in process.cause_of_death()
    process.close()


def test_a_python_that_does_not_know_its_interpreter_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(BackendError, match=r"could not be started: .*sys\.executable"):
        start(isolated_calls.sleep)


def is_alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2]
    except OSError:
        return False
    return state.split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc")
@pytest.mark.parametrize("doing", ["at work", "starting", "paused"])
def test_a_process_ends_quietly_after_its_parent_was_killed(doing: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path += {[str(ROOT), str(TESTS)]!r}\n"
        "import isolated_calls\n"
        "from foldbench.bench.workers.starting import start\n"
        "process = start(isolated_calls.sleep)\n"
        f"if {doing!r} != 'starting': process.connection.recv()\n"
        f"if {doing!r} == 'paused': process.pause()\n"
        "print(process.process_id, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with (tmp_path / "stderr").open("wb") as stderr:
        parent = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    if doing == "paused" and sys.platform == "linux":
        isolated_calls.wait_for_status(child, psutil.STATUS_STOPPED)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_alive(child)
    assert (tmp_path / "stderr").read_text() == ""

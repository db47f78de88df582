"""A call in a process of its own: results, progress and errors come back; crashes are one line."""

import logging
import os
import platform
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import isolated_calls
from foldbench.bench.errors import BackendError, DataError
from foldbench.bench.progress import NullListener
from foldbench.bench.workers.isolated import run_isolated


class Heard(NullListener):
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def note(self, text: str) -> None:
        self.calls.append(("note", text))

    def begin(self, title: str, total: int) -> None:
        self.calls.append(("begin", title, total))

    def advance(self, done: int, text: str = "") -> None:
        self.calls.append(("advance", done, text))

    def end(self, text: str = "") -> None:
        self.calls.append(("end", text))


def test_a_result_comes_back_and_what_is_printed_does_not_reach_stdout(
    capfd: pytest.CaptureFixture[str],
) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(run_isolated(isolated_calls.double, values), 2 * values)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "printed by the call" in printed.err
    assert "written by the call" in printed.err


def test_progress_notes_and_log_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    with caplog.at_level(logging.WARNING, "foldbench"):
        assert run_isolated(isolated_calls.work, 3, listener=heard) == "result"
    assert heard.calls == [
        *(("note", "a note"), ("begin", "work", 3), ("advance", 3, "text"), ("end", "done"))
    ]
    assert caplog.messages == ["100 %d"]


def test_an_error_of_foldbench_keeps_its_kind_and_text() -> None:
    with pytest.raises(DataError) as caught:
        run_isolated(isolated_calls.fail, "ours")
    assert str(caught.value) == "images/: no class folders"
    assert type(caught.value) is DataError, "of the kinds that are known here"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("segfault", "its process was ended by SIGSEGV"),
        ("killed", "its process was ended by SIGKILL: out of memory?"),
        ("_exit", "its process ended by itself (exit code 0)"),
        ("exit", "the code ended its process (exit code tired)"),
    ],
)
def test_a_call_that_takes_its_process_along_says_how(kind: str, text: str) -> None:
    with pytest.raises(BackendError) as caught:
        run_isolated(isolated_calls.fail, kind)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("unforeseen", RuntimeError, "TheirsError: two lines"),
        ("interrupt", RuntimeError, "KeyboardInterrupt"),
        ("unpicklable", RuntimeError, "pickle"),
        ("file", FileNotFoundError, "/nowhere/x"),
        ("memory", MemoryError, ""),
    ],
)
def test_any_other_error_is_told_with_its_traceback(
    kind: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        run_isolated(isolated_calls.fail, kind)
    assert text in str(caught.value)
    assert "Traceback" in str(caught.value.__cause__)


def test_an_interrupt_of_the_parent_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_isolated(isolated_calls.wait_for_ever)
    timer.join()


def test_a_process_may_start_others() -> None:
    assert run_isolated(isolated_calls.spawn_one_more) == 1


def test_functions_of_other_modules_are_found_by_their_name(tmp_path: Path) -> None:
    assert run_isolated(platform.node) == platform.node()

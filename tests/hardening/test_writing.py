"""What is written is whole, where it was asked for, and in place of nothing but files."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

import foldbench
from foldbench.bench.cli import main as cli_main
from foldbench.bench.errors import RunError
from foldbench.bench.store import files, temporary
from foldbench.bench.store.directory import create_run
from foldbench.bench.store.files import write_text, write_with
from foldbench.bench.workers import server
from foldbench.models.training.resume import Resume, save_state

COMMANDS = sys.modules["foldbench.bench.cli.main"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX files")


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "real.html", tmp_path / "link.html"
    target.write_text("before")
    link.symlink_to(target)
    write_text(link, "after")
    assert link.is_symlink()
    assert target.read_text() == "after"


def test_a_link_to_nowhere_makes_the_file_that_it_names(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "new")
    write_text(link, "text")
    assert link.is_symlink()
    assert (tmp_path / "new").read_text() == "text"


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(RunError, match="cannot write"):
        write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_pipe_is_written_into(tmp_path: Path, through_a_link: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = pipe
    if through_a_link:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_text(path, "text")
    reader.join(timeout=10)
    assert read == ["text"]
    assert pipe.is_fifo()


def test_a_device_is_written_into(tmp_path: Path) -> None:
    node = tmp_path / "null"
    try:
        os.mknod(node, 0o666 | 0o020000, os.makedev(1, 3))
        os.close(os.open(node, os.O_WRONLY))
    except OSError:
        pytest.skip("may not make device nodes")
    write_with(node, lambda path: path.write_bytes(b"picture"))
    assert node.is_char_device()


def test_a_full_device_is_refused_and_stays(tmp_path: Path) -> None:
    node = tmp_path / "full"
    try:
        os.mknod(node, 0o666 | 0o020000, os.makedev(1, 7))
        os.close(os.open(node, os.O_WRONLY))
    except OSError:
        pytest.skip("may not make device nodes")
    with pytest.raises(RunError, match="No space left"):
        write_text(node, "text")
    assert node.is_char_device()


def test_a_folder_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="Is a directory"):
        write_text(tmp_path / "folder", "text")
    assert os.listdir(tmp_path) == ["folder"]


def test_standard_output_named_as_a_file_is_written_into(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from foldbench.bench.store.files import write_text; "
        "print('first', flush=True); write_text(Path('/dev/stdout'), 'second\\n'); print('third')"
    )
    out = tmp_path / "out"
    given = os.environ | {"PYTHONPATH": str(Path(foldbench.__file__).parents[1])}
    with out.open("w") as stream:
        subprocess.run([sys.executable, "-c", code], stdout=stream, check=True, env=given)
    assert out.read_text().split() == ["first", "second", "third"]
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=given)
    assert piped.stdout.split() == [b"first", b"second", b"third"]


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o022, 0o002, 0o000])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "text", "text")
        replaced = tmp_path / "by a library"
        write_with(replaced, lambda path: (path.unlink(), path.write_text("x"), path.chmod(0o600)))
    finally:
        os.umask(before)
    assert (tmp_path / "text").stat().st_mode & 0o777 == 0o666 & ~mask
    assert replaced.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("length", [200, 255])
def test_names_as_long_as_the_file_system_allows_are_written(tmp_path: Path, length: int) -> None:
    write_text(tmp_path / ("n" * length), "text")
    assert (tmp_path / ("n" * length)).read_text() == "text"


DEAD = 2**22 + 1  # larger than any process number


def test_what_dead_processes_left_goes_when_the_run_is_next_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    run = create_run(tmp_path / "runs", "digits", {})
    (run.path / "artifacts").mkdir()
    left = [
        run.path / f".foldbench-{DEAD}-00.pt",
        run.path / "artifacts" / f".foldbench-{DEAD}-00.onnx",
        tmp_path / "tmp" / f"foldbench-{DEAD}-abc",
    ]
    stays = [
        run.path / f".foldbench-{os.getpid()}-00.pt",
        run.path / ".foldbench-notes",
        tmp_path / "tmp" / f"foldbench-{os.getpid()}-abc",
        tmp_path / "tmp" / "foldbench-thesis",
        tmp_path / "tmp" / "other",
    ]
    for path in [*left, *stays]:
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if path.parent.name == "tmp" else path.write_text("")
    (left[-1] / "images.npy").write_bytes(b"x")
    with run.locked():
        pass
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in stays)


def test_a_folder_that_a_live_process_holds_stays_whatever_its_number(tmp_path: Path) -> None:
    held = tmp_path / f"foldbench-{DEAD}-abc"
    held.mkdir()
    with temporary.FileLock(held / ".lock"):
        temporary.sweep([held])
        assert held.is_dir()
    temporary.sweep([held])
    assert not held.exists()


def test_a_folder_is_filled_by_one_process_while_others_wait(tmp_path: Path) -> None:
    (tmp_path / f".foldbench-{DEAD}-00.npy").write_bytes(b"half")
    waited: list[bool] = []

    def fill() -> None:
        with temporary.filling(tmp_path) as has_waited:
            waited.append(has_waited)

    with temporary.filling(tmp_path) as has_waited:
        assert not has_waited
        other = threading.Thread(target=fill)
        other.start()
        assert not list(tmp_path.glob(".foldbench-*"))
        other.join(0.2)
        assert not waited
    other.join()
    assert waited == [True]


def test_a_link_that_is_called_like_a_left_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("text")
    (tmp_path / f"foldbench-{DEAD}-abc").symlink_to(tmp_path / "mine")
    temporary.sweep(tmp_path.iterdir())
    assert (tmp_path / "mine" / "thesis").exists()


def test_a_run_that_was_begun_is_numbered_only_once_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("foldbench.bench.store.directory.write_text", fail)
    with pytest.raises(KeyboardInterrupt):
        create_run(tmp_path, "digits", {})
    monkeypatch.undo()
    assert not list(tmp_path.glob("digits*"))
    assert create_run(tmp_path, "digits", {}).name == "digits-001"
    assert create_run(tmp_path, "digits", {}).name == "digits-002"


def test_training_does_not_bring_back_a_run_that_was_deleted(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="deleted meanwhile"):
        save_state(Resume(tmp_path / "digits-001" / "resume.pt", "key"), {}, ())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_being_told_to_end_is_an_interrupt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    signal.signal(number, signal.SIG_DFL)
    monkeypatch.setattr(COMMANDS, "cli", lambda **_: os.kill(os.getpid(), number))
    try:
        with pytest.raises(KeyboardInterrupt):
            cli_main()
    finally:
        signal.signal(number, before)


def test_under_nohup_the_end_of_the_terminal_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(COMMANDS, "cli", lambda **_: os.kill(os.getpid(), signal.SIGHUP))
    try:
        cli_main()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError, BrokenPipeError])
def test_a_worker_ends_quietly_when_its_parent_has_gone(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def recv(self) -> None:
            raise error

    monkeypatch.setattr(server, "WorkerServer", lambda *_: nullcontext())
    assert server.serve(Broken(), None) is None  # type: ignore[arg-type]


STEPS = ("open", "close", "fsync", "replace")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_step_fails_the_file_from_before_stays_and_nothing_else(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    write_text(path, "before")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises((RunError, KeyboardInterrupt)):
        write_text(path, "after")
    monkeypatch.undo()
    assert path.read_text() == "before"
    assert len(os.listdir(tmp_path)) == 1

"""A disk that fails, or a kill, at each step of writing a run: old or new, and never between."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from builders import make_artifact, make_run
from foldbench.bench.errors import RunError
from foldbench.bench.records import Run
from foldbench.bench.store import files
from foldbench.bench.store.directory import RunDirectory, create_run, list_runs

STEPS = ("open", "fsync", "replace")
"""Of os, as store/files.py calls them; each is a moment at which a write can end."""
RECORD = make_run(measurements=())
OTHER = make_run(measurements=(), created="2026-01-01T00:00:00Z")


def write_all(root: Path, record: Run) -> None:
    """Write what a run's stages write, in their order, into its newest run or a new one."""
    found = list_runs(root)
    run = found[-1] if found else create_run(root, "bn_cnn", {"config_name": "bn_cnn"})
    with run.locked():
        run.write_meta({"config_name": "bn_cnn", "training_key": record.created})
        run.write_checkpoint(record.checkpoint)
        for variant in ("unfolded", "folded"):
            run.write_artifact(make_artifact(variant))
        run.write_results(record)
        run.write_report(f"# {record.created}\n", f"<p>{record.created}</p>")


def steps_of(root: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[int], None]) -> int:
    """Call `fail` with the number of each step of writing everything; return how many there are."""
    count = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            fail(count)
            return call(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(files.os, name, counted(getattr(os, name)))
        write_all(root, OTHER)
    return count


def check(root: Path) -> None:
    """Every run that is there can be read whole, with each file of one record or of the other."""
    for run in list_runs(root):
        assert run.meta()
        for name, read in (("checkpoint", run.checkpoint), ("results", run.results)):
            if (run.path / f"{name}.json").exists():
                read()
        run.artifacts()
        created = {RECORD.created, OTHER.created}
        if (run.path / "results.json").exists():
            assert json.loads((run.path / "results.json").read_text())["created"] in created
        if (run.path / "report.md").exists():
            assert (run.path / "report.md").read_text().strip("#\n ") in created


def left(root: Path) -> list[str]:
    return [str(path) for path in root.rglob(".foldbench-*")]


@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("kind", ["full disk", "interrupt"])
def test_a_failure_at_any_step_leaves_whole_files_and_no_others(
    before: bool, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(28, "No space left on device") if kind == "full disk" else KeyboardInterrupt()

    def begin(name: str) -> Path:
        root = tmp_path / name
        if before:
            write_all(root, RECORD)
        return root

    total = steps_of(begin("all"), monkeypatch, lambda _: None)
    assert total > 20
    for number in range(1, total + 1):
        root = begin(str(number))

        def fail(step: int, number: int = number) -> None:
            if step == number:
                raise error

        with pytest.raises((RunError, KeyboardInterrupt)):
            steps_of(root, monkeypatch, fail)
        check(root)
        write_all(root, OTHER)
        check(root)
        assert not left(root)
        assert [run.results().created for run in list_runs(root)] == [OTHER.created]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
def test_a_kill_at_any_step_leaves_whole_files_and_what_the_next_command_removes(
    before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(tmp_path / "all", RECORD)
    total = steps_of(tmp_path / "all", monkeypatch, lambda _: None)
    torn = 0
    for number in range(1, total + 1):
        root = tmp_path / str(number)
        if before:
            write_all(root, RECORD)
        process = os.fork()
        if not process:

            def fail(step: int, number: int = number) -> None:
                if step == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                steps_of(root, monkeypatch, fail)
            finally:
                os._exit(1)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status) or number > total - 3
        check(root)
        torn += bool(left(root))
        write_all(root, OTHER)
        check(root)
        assert not left(root)
    assert torn  # the kills did come between the steps
    assert RunDirectory(tmp_path / "1").path.is_dir()

"""Every comparison of a run is kept, has a number and a name; older folders open as before."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from builders import make_checkpoint, make_lost_row, make_run
from foldbench.bench.cli import cli
from foldbench.bench.errors import BenchError, RunError, UnknownNameError
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Run
from foldbench.bench.stages.report import store_comparison
from foldbench.bench.store.directory import RunDirectory, create_run
from foldbench.bench.store.finding import (
    all_comparisons,
    find_comparisons,
    find_runs,
    last_comparisons,
)

Make = Callable[..., Run]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run that was not compared."""
    run = create_run(tmp_path, "bn_cnn", {"config_name": "bn_cnn"})
    run.write_checkpoint(make_checkpoint())
    return run


@pytest.fixture
def make() -> Make:
    """A record of a day of March."""

    def record(day: int, **changes: Any) -> Run:
        return make_run(name="bn_cnn-001", created=f"2026-03-{day:02}T12:00:00Z", **changes)

    return record


def bench(run: RunDirectory, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--runs", str(run.path.parent)])


def days(run: RunDirectory) -> list[int]:
    records = [run.read_comparison(kept) for kept in run.comparisons()]
    return [int(record.created[8:10]) for record in records]


def test_every_comparison_is_a_file_of_its_own_and_results_json_is_the_newest(
    run: RunDirectory, make: Make
) -> None:
    assert not run.is_compared()
    for day in (1, 2, 3):
        path = run.write_results(make(day))
        assert path == run.path / "comparisons" / f"00{day}.json"
        assert (run.path / "results.json").read_bytes() == path.read_bytes()
        assert run.results() == make(day)
    assert days(run) == [1, 2, 3]
    assert run.describe().endswith("compared 3 times")
    assert sorted(path.name for path in run.path.glob("results*")) == ["results.json"]


def test_a_number_that_was_deleted_is_not_given_again(run: RunDirectory, make: Make) -> None:
    for day in (1, 2, 3):
        run.write_results(make(day))
    (run.path / "comparisons" / "002.json").unlink()
    run.write_results(make(4))
    assert [kept.number for kept in run.comparisons()] == [1, 3, 4]
    assert days(run) == [1, 3, 4]


def test_records_of_an_earlier_version_count_and_keep_their_numbers(
    run: RunDirectory, make: Make
) -> None:
    homework, clean = make(1), make(2, evaluation_protocol="clean")
    for name, record in (("results-homework", homework), ("results-clean", clean)):
        (run.path / f"{name}.json").write_text(record.model_dump_json() + "\n")
    (run.path / "results.json").write_text(clean.model_dump_json() + "\n")
    assert days(run) == [1, 2]
    assert run.results_by_protocol() == (homework, clean)
    old = (run.path / "results.json").read_bytes()
    run.write_results(make(3))
    assert days(run) == [1, 2, 3]
    assert (run.path / "comparisons" / "002.json").read_bytes() == old
    assert [path.name for path in run.path.glob("results*")] == ["results.json"]


def test_what_another_version_wrote_over_results_json_is_kept_too(
    run: RunDirectory, make: Make
) -> None:
    run.write_results(make(1))
    (run.path / "results.json").write_text(make(2).model_dump_json())
    assert run.results() == make(2)
    run.write_results(make(3))
    assert days(run) == [1, 2, 3]


def test_a_record_that_cannot_be_read_keeps_its_number_and_its_bytes(
    run: RunDirectory, make: Make
) -> None:
    (run.path / "results.json").write_bytes(b"\xff\x00 broken")
    run.write_results(make(2))
    assert (run.path / "comparisons" / "001.json").read_bytes() == b"\xff\x00 broken"
    assert run.results() == make(2)
    shown = bench(run, "history")
    assert shown.exit_code == 0
    assert "comparisons/001.json" in shown.stderr


def test_a_full_disk_loses_no_comparison(
    run: RunDirectory, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_results(make(1))
    before = sorted(path.name for path in run.path.rglob("*"))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(RunError, match="No space left"):
            run.write_results(make(2))
    assert sorted(path.name for path in run.path.rglob("*")) == before
    assert run.results() == make(1)


def test_a_comparison_in_which_nothing_ran_takes_no_place(run: RunDirectory, make: Make) -> None:
    def failed(day: int) -> Run:
        return make(day, measurements=(make_lost_row("ort", "folded", "cpu", "failed", "no"),))

    store_comparison(run, failed(1), NullListener())
    assert days(run) == [1], "better than nothing"
    store_comparison(run, make(2), NullListener())
    store_comparison(run, failed(3), NullListener())
    assert days(run) == [1, 2]
    (run.path / "comparisons" / "003.json").write_text("damaged")
    store_comparison(run, failed(4), NullListener())
    assert [kept.number for kept in run.comparisons()] == [1, 2, 3]


def test_a_comparison_is_named_by_its_number_from_either_end(run: RunDirectory, make: Make) -> None:
    for day in (1, 2, 3):
        run.write_results(make(day))
    root = run.path.parent

    def found(name: str) -> tuple[str, int]:
        (one,) = find_comparisons(root, [name])
        record = one.record()
        return record.name, int(record.created[8:10])

    assert found("bn_cnn-001") == ("bn_cnn-001@3", 3)
    assert found("bn_cnn-001@1") == ("bn_cnn-001@1", 1)
    assert found("bn_cnn@2") == ("bn_cnn-001@2", 2)
    assert found(f"{run.path}@3") == ("bn_cnn-001@3", 3)
    assert found("bn_cnn-001@-1") == ("bn_cnn-001@2", 2)
    assert found("bn_cnn@-2") == ("bn_cnn-001@1", 1)
    assert [one.name for one in all_comparisons([run])] == [f"bn_cnn-001@{n}" for n in (1, 2, 3)]
    for name in ("bn_cnn@0", "bn_cnn@4", "bn_cnn@-3"):
        with pytest.raises(UnknownNameError, match=r"@1 of 2026-03-01.*@3 of 2026-03-03") as error:
            found(name)
        assert "\n" not in str(error.value)
    with pytest.raises(UnknownNameError, match="no run 'mish@1'"):
        find_runs(root, ["mish@1"])


def test_a_folder_whose_name_ends_like_a_number_is_itself(run: RunDirectory, make: Make) -> None:
    run.write_results(make(1))
    moved = run.path.rename(run.path.with_name("bn@7"))
    (one,) = find_comparisons(moved.parent, ["bn@7"])
    assert (one.run.path, one.kept.number) == (moved, 1)
    assert find_runs(moved.parent, [str(moved)])[0].path == moved


def test_a_command_that_works_on_the_run_refuses_the_number_of_a_comparison(
    run: RunDirectory, make: Make
) -> None:
    run.write_results(make(1))
    result = bench(run, "export", "bn_cnn@1")
    assert result.exit_code == 1
    assert "takes the whole run" in result.stderr


def test_the_last_comparisons_need_to_be_there(run: RunDirectory, make: Make) -> None:
    root = run.path.parent
    for day in (1, 2, 3):
        with pytest.raises(BenchError, match="bench compare bn_cnn-001"):
            last_comparisons(root, "bn_cnn", 3)
        run.write_results(make(day))
    first, last = last_comparisons(root, "bn_cnn", 2)
    assert (first.name, last.name) == ("bn_cnn-001@2", "bn_cnn-001@3")


def test_a_report_shows_the_comparison_that_is_named(run: RunDirectory, make: Make) -> None:
    for day in (1, 2):
        run.write_results(make(day))

    def created(*names: str) -> list[tuple[str, str]]:
        result = bench(run, "report", *names, "--format", "json")
        assert result.exit_code == 0, result.output
        return [(one["run"], one["created"][8:10]) for one in json.loads(result.stdout)["runs"]]

    assert created("bn_cnn-001") == [("bn_cnn-001", "02")]
    assert created("bn_cnn@1") == [("bn_cnn-001@1", "01")]
    assert created("bn_cnn@1", "bn_cnn@2") == [("bn_cnn-001@1", "01"), ("bn_cnn-001@2", "02")]
    assert bench(run, "report", "bn_cnn@1", "--both-protocols").exit_code == 2

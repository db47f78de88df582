"""Run directories and the files in them: whole or not there, found again, never mixed up."""

import os
from pathlib import Path

import pytest

from foldbench.bench.errors import RunError, UnknownNameError
from foldbench.bench.store.directory import RunDirectory, create_run, list_runs
from foldbench.bench.store.files import file_sha256, json_sha256, write_text, write_with
from foldbench.bench.store.finding import find_runs, newest_runs


def finish(run: RunDirectory) -> RunDirectory:
    (run.path / "checkpoint.json").write_text("{}")
    return run


def test_runs_are_numbered_by_configuration(tmp_path: Path) -> None:
    names = [create_run(tmp_path, c, {}).name for c in ("deep", "deep", "deep-er", "deep")]
    assert names == ["deep-001", "deep-002", "deep-er-001", "deep-003"]
    assert [run.config_name for run in list_runs(tmp_path)] == ["deep"] * 3 + ["deep-er"]


def test_a_number_is_not_given_twice_when_an_old_run_was_deleted(tmp_path: Path) -> None:
    create_run(tmp_path, "a", {})
    second = create_run(tmp_path, "a", {})
    (tmp_path / "a-001" / "run.json").unlink()
    (tmp_path / "a-001").rmdir()
    assert create_run(tmp_path, "a", {}).name == "a-003"
    assert second.name == "a-002"


def test_the_newest_finished_run_of_each_configuration_is_found(tmp_path: Path) -> None:
    finish(create_run(tmp_path, "a", {}))
    finish(create_run(tmp_path, "a", {}))
    create_run(tmp_path, "a", {})
    finish(create_run(tmp_path, "b", {}))
    assert [run.name for run in newest_runs(tmp_path)] == ["a-002", "b-001"]


def test_a_run_is_found_by_name_by_path_and_by_its_configuration(tmp_path: Path) -> None:
    run = finish(create_run(tmp_path, "a", {}))
    create_run(tmp_path, "a", {})
    for name in ("a-001", str(tmp_path / "a-001"), "a"):
        assert find_runs(tmp_path, [name])[0].path.resolve() == run.path.resolve()


def test_an_unknown_run_gets_the_nearest_spelling_and_the_list(tmp_path: Path) -> None:
    create_run(tmp_path, "deep_mish", {})
    with pytest.raises(UnknownNameError, match=r"'deep_mish-001'.*deep_mish"):
        find_runs(tmp_path, ["deep_mihs-001"])


def test_without_any_run_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="bench train NAME"):
        newest_runs(tmp_path / "none")
    with pytest.raises(RunError, match="bench compare"):
        newest_runs(tmp_path / "none", compared=True)


def test_a_run_in_use_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    run = create_run(tmp_path, "a", {})
    with (
        run.locked(),
        pytest.raises(RunError, match="in use"),
        run.locked(),
    ):
        pass
    with run.locked():
        pass


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("checkpoint.json", "{", "checkpoint.json is no checkpoint record of schema 1"),
        ("checkpoint.json", '{"schema_version": 99}', "written by another version"),
        ("checkpoint.json", "\x80", "is no checkpoint record"),
        ("artifacts.json", "{", "is not JSON"),
        ("artifacts.json", "{}", "is not a list of artifacts"),
        ("artifacts.json", "[{}]", "is no artifact record"),
        ("results.json", "[]", "is no run record"),
    ],
)
def test_a_damaged_record_is_named_with_what_is_wrong(
    file: str, text: str, expected: str, tmp_path: Path
) -> None:
    run = create_run(tmp_path, "a", {})
    (run.path / file).write_text(text)
    read = {"checkpoint": run.checkpoint, "artifacts": run.artifacts, "results": run.results}
    with pytest.raises(RunError) as caught:
        read[file.removesuffix(".json")]()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_record_names_the_command_that_makes_it(tmp_path: Path) -> None:
    run = create_run(tmp_path, "a", {})
    with pytest.raises(RunError, match="bench train a"):
        run.checkpoint()
    with pytest.raises(RunError, match="bench compare a-001"):
        run.results()


def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"x\.json: No space left"):
        write_with(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_write_that_is_interrupted_leaves_the_old_file_and_no_scrap(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_text(path, "old")

    def interrupt(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_with(path, interrupt)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_runs_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match="--runs"):
        create_run(tmp_path / "runs", "a", {})


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="--runs"):
        create_run(tmp_path / "runs", "a", {})


def test_hashes_do_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    assert json_sha256({"a": 1, "b": 2}) == json_sha256({"b": 2, "a": 1})
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_sha256(path).startswith("ba7816bf")

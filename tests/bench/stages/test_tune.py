"""Searches: trials that several processes share, go on after a kill, and are judged fairly."""

import json
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from foldbench.bench.cli import cli
from foldbench.bench.config.files import load
from foldbench.bench.errors import ConfigError, DataError, MissingPackageError, RunError
from foldbench.bench.images.image_set import Split
from foldbench.bench.images.splits import draw_apart
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Hyperparameters, Search, SearchTrial
from foldbench.bench.stages.tune import SearchOptions, search
from foldbench.bench.store.directory import Paths
from foldbench.bench.store.study import SearchPlan, SharedSearch, Space
from foldbench.reports.commands.tune import build_search
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.rows.homework import TuningRow, references

pytest.importorskip("optuna")

SPACE = Space((1e-3, 1e-1), (16, 32), (1, 2))
ROWS = (
    Hyperparameters(learning_rate=0.01, batch_size=32, epochs=1),
    Hyperparameters(learning_rate=0.002, batch_size=16, epochs=2),
)


def plan(trials: int = 4, rows: tuple[Hyperparameters, ...] = ()) -> SearchPlan:
    return SearchPlan("study", SPACE, 0, trials, rows)


def work(shared: SharedSearch, at_most: int = 100) -> list[Hyperparameters]:
    """Make trials that come to their learning rate, until there is nothing left to do."""
    made: list[Hyperparameters] = []
    for _ in range(at_most):
        with shared.attempt() as attempt:
            if attempt is None:
                break
            made.append(attempt.choice)
            shared.report(attempt, attempt.choice.learning_rate, attempt.choice.learning_rate)
            shared.end(attempt, "finished", 0.1)
    return made


def work_elsewhere(folder: Path) -> None:
    work(SharedSearch(plan(trials=12), folder))


def die_at_work(folder: Path) -> None:
    with SharedSearch(plan(), folder).attempt() as attempt:
        assert attempt is not None
        os._exit(9)


def spawn(target, *arguments) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


@pytest.mark.parametrize("storage", [None, "file", "sqlite"])
def test_a_search_goes_on_where_it_stopped_and_ends_at_its_number_of_trials(
    tmp_path: Path, storage: str | None
) -> None:
    place = {"file": str(tmp_path / "x.journal"), "sqlite": f"sqlite:///{tmp_path}/x.db"}
    named = place.get(storage or "")
    first = work(SharedSearch(plan(), tmp_path / "a", named), at_most=3)
    rest = work(SharedSearch(plan(), tmp_path / "a", named))
    assert (len(first), len(rest)) == (3, 1)
    assert not work(SharedSearch(plan(), tmp_path / "a", named))
    more = work(SharedSearch(plan(trials=6), tmp_path / "a", named))
    assert len({*first, *rest, *more}) == 6  # a resumed search draws nothing twice
    assert not list((tmp_path / "a").glob("*-trial-*"))


def test_the_same_seed_gives_the_same_trials_however_often_it_stopped(tmp_path: Path) -> None:
    whole = work(SharedSearch(plan(), tmp_path / "whole"))
    parts = [c for _ in range(4) for c in work(SharedSearch(plan(), tmp_path / "parts"), 1)]
    assert whole == parts


def test_several_processes_share_the_trials_and_make_none_too_many(tmp_path: Path) -> None:
    processes = [spawn(work_elsewhere, tmp_path) for _ in range(3)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    trials = SharedSearch(plan(trials=12), tmp_path).trials()
    assert [trial.status for trial in trials] == ["finished"] * 12


def test_a_trial_whose_process_was_killed_is_made_again(tmp_path: Path) -> None:
    process = spawn(die_at_work, tmp_path)
    process.join(120)
    assert process.exitcode == 9
    (lost,) = SharedSearch(plan(), tmp_path).trials()
    assert lost.status == "running"
    shared = SharedSearch(plan(), tmp_path)
    assert work(shared)[0] == lost.choice
    assert [trial.status for trial in shared.trials()] == ["finished"] * 4


def test_a_trial_that_another_process_works_on_is_left_alone(tmp_path: Path) -> None:
    with SharedSearch(plan(trials=2), tmp_path).attempt() as mine:
        assert mine is not None
        theirs = work(SharedSearch(plan(trials=2), tmp_path))
        assert len(theirs) == 1
        assert mine.choice not in theirs


def test_an_interrupt_leaves_the_trial_to_be_made_again(tmp_path: Path) -> None:
    shared = SharedSearch(plan(), tmp_path)
    begun: list[Hyperparameters] = []

    def be_interrupted() -> None:
        with shared.attempt() as attempt:
            assert attempt is not None
            begun.append(attempt.choice)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert work(shared)[0] == begun[0]


def test_rows_are_tried_each_once_and_nothing_else(tmp_path: Path) -> None:
    assert work(SharedSearch(plan(rows=ROWS), tmp_path), 1) == [ROWS[0]]
    assert work(SharedSearch(plan(rows=ROWS), tmp_path)) == [ROWS[1]]
    assert not work(SharedSearch(plan(rows=ROWS), tmp_path))


def test_a_failed_trial_keeps_its_reason_and_is_not_repeated(tmp_path: Path) -> None:
    shared = SharedSearch(plan(rows=ROWS), tmp_path)
    with shared.attempt() as attempt:
        assert attempt is not None
        shared.end(attempt, "failed", 0.1, "the loss became nan")
    assert work(shared) == [ROWS[1]]
    assert shared.trials()[0].status == "failed"
    assert shared.trials()[0].reason == "the loss became nan"


def test_a_trial_far_behind_the_others_is_to_end_but_a_row_of_the_homework_is_not(
    tmp_path: Path,
) -> None:
    for rows, expected in (((), True), (ROWS * 5, False)):
        shared = SharedSearch(plan(trials=9, rows=rows), tmp_path / str(expected))
        behind: list[bool] = []
        for number in range(1 if rows else 8):
            with shared.attempt() as attempt:
                assert attempt is not None
                accuracy = 0.1 if rows or number == 7 else 0.9
                behind = [shared.report(attempt, 1.0, accuracy) for _ in range(5)]
                shared.end(attempt, "pruned" if behind[-1] else "finished", 0.1)
        assert behind[-1] is expected
        assert not behind[0]


def test_a_storage_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"sqlite:///search\.db"):
        SharedSearch(plan(), tmp_path, "nosuchdb://x")


def test_without_optuna_the_package_to_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"foldbench\[tune\]"):
        SharedSearch(plan(), tmp_path)


def test_images_to_train_and_to_validate_on_are_never_the_same() -> None:
    numbers = np.arange(50, dtype=np.uint8)[:, None, None, None]
    split = Split(numbers, np.zeros(50, np.int64))
    kept, held = draw_apart(split, 30, 15, seed=0)
    assert (len(kept.labels), len(held.labels)) == (30, 15)
    assert not set(kept.images.ravel()) & set(held.images.ravel())
    with pytest.raises(DataError, match=r"30 .* 21 "):
        draw_apart(split, 30, 21, seed=0)


SMALL = (
    "model.name=bn_cnn", "train.schedule={name: constant}", "train.threads=1",
    "data.image_size=16",
)  # fmt: skip


def options(**changes) -> SearchOptions:
    return replace(SearchOptions(None, 3, 60, 40, SPACE, None), **changes)


def test_a_search_is_judged_by_training_images_that_no_trial_was_trained_on(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = search(load("digits", SMALL), options(), paths, NullListener())
    assert len(found.trials) == 3
    winner = found.winner()
    assert winner is not None
    assert winner.accuracy() == max(t.accuracy() or 0 for t in found.trials)
    assert all(len(t.losses) == len(t.validation) == t.choice.epochs for t in found.trials)
    stored = paths.runs / "tuning" / "digits" / "search.json"
    assert Search.model_validate_json(stored.read_text(encoding="utf-8")) == found
    text = render_terminal(build_search(found, 2))
    assert "2 of 3 trials" in text


def test_other_settings_are_another_search_and_more_trials_are_the_same_one(
    paths: Paths,
) -> None:
    names = [
        search(load("digits", [*SMALL, *more]), options(**changes), paths, NullListener()).study
        for more, changes in (
            ((), {"trials": 1}),
            ((), {"trials": 2}),
            (("train.learning_rate=0.5",), {"trials": 1}),  # it is chosen anyway
            (("train.label_smoothing=0.1",), {"trials": 1}),
            ((), {"trials": 1, "images": 50}),
        )
    ]
    assert names[0] == names[1] == names[2]
    assert len(set(names)) == 3


@pytest.fixture
def short_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The homework's tuning of BNCNN, cut down to two trainings of one and two epochs."""
    rows = (
        TuningRow(0.01, 32, 1, 2.5, printed=False),
        TuningRow(0.002, 16, 2, 2.25, printed=False),
        TuningRow(0.01, 32, 1, 2.4, printed=True),
    )
    known = {**references(), "bn_cnn": replace(references()["bn_cnn"], tuning=rows)}
    for module in ("foldbench.bench.stages.tune", "foldbench.reports.commands.tune"):
        monkeypatch.setattr(f"{module}.references", lambda: known)


@pytest.mark.usefixtures("short_tuning")
def test_the_homeworks_rows_stand_beside_its_losses_and_the_lowest_loss_wins(
    paths: Paths,
) -> None:
    found = search(load("digits", SMALL), options(preset="homework"), paths, NullListener())
    assert {t.choice for t in found.trials} == set(ROWS)
    winner = found.winner()
    assert winner is not None
    assert winner.loss() == min(t.losses[-1] for t in found.trials)
    rows = build_search(found, 10).sections[0].table.rows
    assert [row[3] for row in rows] == ["2.5000", "2.2500", "2.4000"]
    losses = {t.choice: t.losses[-1] for t in found.trials}
    assert [float(row[4]) for row in rows] == [
        pytest.approx(losses[choice], abs=1e-4) for choice in (ROWS[0], ROWS[1], ROWS[0])
    ]
    assert float(rows[1][5]) == pytest.approx(losses[ROWS[1]] - 2.25, abs=2e-4)


def test_a_network_that_the_homework_did_not_tune_is_refused(paths: Paths) -> None:
    loaded = load("digits", [*SMALL, "model={name: pretrained, args: {arch: resnet18}}"])
    with pytest.raises(ConfigError, match="mish_cnn, bn_cnn, deep_mish"):
        search(loaded, options(preset="homework"), paths, NullListener())


@pytest.mark.parametrize(
    ("model", "rows", "best"),
    [("mish_cnn", 11, 1.3087), ("bn_cnn", 9, 1.1675), ("deep_mish", 1, 0.1805)],
)
def test_the_homeworks_tuning_is_held_as_it_is_printed(model: str, rows: int, best: float) -> None:
    known = references()[model]
    assert known.tuning_images == 1000
    assert len(known.tuning) == rows
    assert min(row.loss for row in known.tuning) == best


def trial(number: int, status: str, *validation: float) -> SearchTrial:
    losses = tuple(1 - share for share in validation)
    return SearchTrial(
        number=number, choice=ROWS[0], status=status, losses=losses, validation=validation
    )


def test_only_a_finished_trial_can_win() -> None:
    found = Search(
        config_name="x", config={"model": {"name": "other"}}, preset=None, study="s",
        data_title="d", data_sha256="0", images=10, validation_images=5, environment={},
        trials=(trial(0, "pruned", 0.9), trial(1, "finished", 0.4, 0.5), trial(2, "running")),
    )  # fmt: skip
    assert found.winner() == found.trials[1]
    assert found.model_copy(update={"trials": found.trials[:1]}).winner() is None
    text = render_terminal(build_search(found, 5))
    assert "fell behind after 1" in text


def test_the_command_prints_the_table_and_writes_the_choice_as_a_config(
    paths: Paths, tmp_path: Path
) -> None:
    target = tmp_path / "chosen.yaml"
    command = [
        "tune", "digits", "--trials=2", "--images=60", "--validation=40", "--batch-sizes=16,32",
        "--epochs=1,2", "--learning-rates=0.001,0.1", "--runs", str(paths.runs), "--cache",
        str(paths.cache), *(f"--set={text}" for text in SMALL), "--write", str(target),
    ]  # fmt: skip
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "Best 2 of 2 trials" in done.stdout
    assert "tuning of BNCNN" in done.stdout
    found = json.loads((paths.runs / "tuning" / "digits" / "search.json").read_text("utf-8"))
    chosen = Search.model_validate(found).winner()
    assert chosen is not None
    config = load(str(target)).config
    assert (config.model.name, config.train.threads, config.data.path) == ("bn_cnn", 1, None)
    assert config.train.learning_rate == chosen.choice.learning_rate
    assert (config.train.batch_size, config.train.epochs) == (
        chosen.choice.batch_size,
        chosen.choice.epochs,
    )
    assert target.read_text(encoding="utf-8").startswith("extends: digits\n")
    again = CliRunner().invoke(cli, command)
    assert again.exit_code == 1
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--epochs=9,3", "give the smallest and the largest"),
        ("--batch-sizes=a", "give numbers with commas"),
        ("--learning-rates=0,1", "numbers above 0"),
        ("--learning-rates=nan,nan", "finite"),
        ("--learning-rates=0.1,inf", "finite"),
        ("--learning-rates=0.1,nan", "finite"),
        ("--batch-sizes=32,32", "once"),
    ],
)
def test_an_impossible_range_is_wrong_usage(option: str, message: str) -> None:
    result = CliRunner().invoke(cli, ["tune", "digits", option])
    assert result.exit_code == 2
    assert message in result.stderr

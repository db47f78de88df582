"""Which images two networks get wrong: counts, McNemar's test, the contact sheet, the command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from builders import QUICK
from foldbench.bench.analysis.error_overlap import (
    compare_errors,
    representative,
    require_same_test_images,
)
from foldbench.bench.cli import cli
from foldbench.bench.errors import RunError
from foldbench.bench.progress import NullListener
from foldbench.bench.records import Run
from foldbench.bench.stages.compare import compare_run
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.reports.commands.errors import render_errors
from foldbench.reports.pictures.contact_sheet import Caption, draw_contact_sheet

LABELS = np.array([0, 0, 1, 1, 2, 2, 2, 0])
SAID_A = [0, 1, 1, 0, 2, 0, 1, 1]  # wrong on 1, 3, 5, 6, 7
SAID_B = [0, 1, 1, 1, 0, 0, 2, 0]  # wrong on 1, 4, 5


@pytest.fixture(scope="module")
def measured_runs(tmp_path_factory: pytest.TempPathFactory, trained_run: RunDirectory) -> Path:
    """A folder of runs for a copy of the finished training, which stays as it is."""
    runs = tmp_path_factory.mktemp("measured") / "runs"
    shutil.copytree(trained_run.path, runs / trained_run.name)
    return runs


@pytest.fixture(scope="module")
def measured(trained_run: RunDirectory, trained_paths: Paths, measured_runs: Path) -> Run:
    """A comparison of the finished training, torch on the CPU alone."""
    only = ("compare.backends=[torch]", "compare.devices=[cpu]", "compare.budget_s=1")
    quick = (*QUICK, *only, "compare.rounds=1")
    copy = RunDirectory(measured_runs / trained_run.name)
    return compare_run(copy, quick, Paths(measured_runs, trained_paths.cache), NullListener())


def saying(run: Run, answers: list[int], labels=LABELS, **changes) -> Run:
    """Return `run` as if it had three classes and had given these answers."""
    correct = int((np.array(answers) == labels).sum())
    measurements = [
        m.model_copy(
            update={
                "accuracy": m.accuracy.model_copy(
                    update={"top1": tuple(answers), "correct": correct, "total": len(answers)}
                )
            }
        )
        for m in run.measurements
    ]
    checkpoint = run.checkpoint.model_copy(update={"classes": ("cat", "dog", "owl")})
    update = {"measurements": tuple(measurements), "checkpoint": checkpoint, **changes}
    return run.model_copy(update=update)


def test_every_image_is_counted_once(measured: Run) -> None:
    found = compare_errors(saying(measured, SAID_A), saying(measured, SAID_B), LABELS)
    assert (found.only_a, found.only_b, found.both) == (3, 1, 2)
    assert found.both_alike == 2
    assert found.disagreements == (3, 4, 6, 7)
    assert found.p_value == pytest.approx(0.625)
    by_class = {c.class_name: c for c in found.classes}
    assert (by_class["cat"].images, by_class["cat"].only_a, by_class["cat"].both) == (3, 1, 1)
    assert (by_class["owl"].a_wrong, by_class["owl"].b_wrong) == (2, 2)
    pairs = {(c.class_name, c.taken_for): (c.a, c.b) for c in found.confusions}
    assert pairs == {
        ("cat", "dog"): (2, 1),
        ("dog", "cat"): (1, 0),
        ("owl", "cat"): (1, 2),
        ("owl", "dog"): (1, 0),
    }


@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=60),
)
def test_the_counts_add_up_whatever_was_said(measured: Run, rows) -> None:
    labels, a, b = (np.array(column) for column in zip(*rows, strict=True))
    runs = [saying(measured, said.tolist(), labels) for said in (a, b)]
    found = compare_errors(*runs, labels)
    assert found.only_a + found.both == int((a != labels).sum())
    assert found.only_b + found.both == int((b != labels).sum())
    for field in ("only_a", "only_b", "both", "images"):
        assert sum(getattr(c, field) for c in found.classes) == getattr(found, field)
    assert sum(c.a for c in found.confusions) == found.only_a + found.both
    mirrored = compare_errors(*reversed(runs), labels)
    assert mirrored.p_value == found.p_value
    assert "\n" in render_errors(*runs, found)


def test_runs_over_other_test_images_are_refused_naming_both(measured: Run) -> None:
    other = measured.model_copy(update={"name": "other-001", "evaluation_sha256": "f" * 64})
    with pytest.raises(RunError, match=f"{measured.name} .A. and other-001 .B. were scored on"):
        require_same_test_images(measured, other)


def test_the_same_files_prepared_differently_are_the_same_images(measured: Run) -> None:
    same = measured.data.model_copy(update={"test_files_sha256": "e" * 64})
    a = measured.model_copy(update={"data": same})
    b = a.model_copy(update={"evaluation_sha256": "f" * 64})
    require_same_test_images(a, b)


def test_other_classes_are_refused(measured: Run) -> None:
    checkpoint = measured.checkpoint.model_copy(update={"classes": ("a", "b")})
    with pytest.raises(RunError, match="classes differ .10 in A: 0, 1, 2, …; 2 in B: a, b, …."):
        require_same_test_images(measured, measured.model_copy(update={"checkpoint": checkpoint}))


def test_labels_of_other_images_are_refused(measured: Run) -> None:
    a = saying(measured, SAID_A)
    with pytest.raises(RunError, match="labels at hand are not those"):
        compare_errors(a, a, LABELS[::-1])


def test_random_weights_have_no_errors(measured: Run) -> None:
    checkpoint = measured.checkpoint.model_copy(update={"random_weights": True})
    with pytest.raises(RunError, match="random weights: its errors mean nothing"):
        representative(measured.model_copy(update={"checkpoint": checkpoint}))


def test_without_the_reference_another_contender_stands_for_the_run(measured: Run) -> None:
    assert representative(measured)[0] == measured.reference
    rest = tuple(m for m in measured.measurements if m.contender != measured.reference)
    assert (
        representative(measured.model_copy(update={"measurements": rest}))[0] == rest[0].contender
    )
    with pytest.raises(RunError, match="no contender of"):
        representative(measured.model_copy(update={"measurements": ()}))


def test_a_contact_sheet_holds_every_image() -> None:
    images = np.zeros((9, 3, 8, 8), np.uint8)
    images[:, 0] = 255
    sheet = draw_contact_sheet(images, [Caption("cat", "cat", "a very long name " * 3)] * 9, "x")
    red = (np.asarray(sheet) == (255, 0, 0)).all(2)
    assert red.sum() == 9 * 112 * 112
    assert draw_contact_sheet(images[:0], [], "none").size[0] > 0


def test_the_command_counts_and_draws(
    measured: Run, measured_runs: Path, tmp_path: Path, monkeypatch
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(measured_runs, runs)
    first = RunDirectory(runs / measured.name)
    twin = RunDirectory(runs / "digits-777")
    shutil.copytree(first.path, twin.path)
    twin.write_results(twin.results().model_copy(update={"name": "digits-777"}))
    sheet = tmp_path / "sheet.png"
    monkeypatch.setenv("FOLDBENCH_RUNS", str(runs))
    call = [first.name, "digits-777", "--sheet", str(sheet)]
    shown = CliRunner().invoke(cli, ["errors", *call])
    assert shown.exit_code == 0, shown.output
    assert "both wrong" in shown.stdout
    assert "McNemar's exact test on 0 against 0: p = 1" in shown.stdout
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    as_json = json.loads(CliRunner().invoke(cli, ["errors", *call, "--json"]).stdout)
    assert as_json["images"] == measured.data.test_count
    assert as_json["contact_sheet"] == str(sheet)


def test_a_data_set_that_is_not_the_one_scored_is_refused(measured: Run, tmp_path: Path) -> None:
    from foldbench.bench.images.scored import load_scored

    other = measured.model_copy(
        update={"data": measured.data.model_copy(update={"sha256": "0" * 64})}
    )
    with pytest.raises(RunError, match="does not hold the images that"):
        load_scored(other, (), tmp_path, NullListener())

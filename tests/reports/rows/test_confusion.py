"""Right and wrong, from labels and predicted classes."""

import numpy as np
import pytest

from foldbench.bench.analysis.error_overlap import (
    ContingencyTable,
    compare_errors,
    require_same_test_images,
)
from foldbench.bench.errors import RunError
from foldbench.reports.render import render
from foldbench.reports.rows.confusion import confusion_of, overlaps, predictions

CLASSES = ("cat", "dog", "emu")
LABELS = (0, 0, 0, 1, 1, 2)


@pytest.fixture
def labelled_run(build):
    """Builds a run on six images of three classes; each keyword is a variant's predictions."""

    def make(name="mine", labels=LABELS, evaluation=None, **given):
        data = build.data(classes=CLASSES, test_count=6)
        rows = tuple(
            build.row(
                "torch",
                variant,
                accuracy=build.accuracy(
                    sum(a == b for a, b in zip(top1, LABELS, strict=False)), 6
                ).model_copy(update={"top1": tuple(top1)}),
            )
            for variant, top1 in given.items()
        )
        return build.run(
            checkpoint=build.checkpoint(name, data=data),
            name=name,
            labels=labels,
            measurements=rows,
            evaluation_sha256=evaluation or build.sha("f"),
        )

    return make


def test_rows_are_true_classes_and_columns_what_they_were_taken_for(labelled_run):
    run = labelled_run(unfolded=(0, 1, 1, 1, 0, 2))
    assert confusion_of(run).tolist() == [[1, 2, 0], [1, 1, 0], [0, 0, 1]]


def test_the_matrix_holds_every_image_once(labelled_run):
    counts = confusion_of(labelled_run(unfolded=(2, 2, 2, 2, 2, 2)))
    assert counts.sum() == len(LABELS)
    assert counts.sum(1).tolist() == [3, 2, 1]


def test_without_labels_there_is_no_matrix_and_no_section(labelled_run):
    run = labelled_run(labels=None, unfolded=(0, 1, 1, 1, 0, 2))
    assert confusion_of(run) is None
    assert "confusions" not in render(run, "md")
    assert "Confusion matrix" not in render(run, "html")


@pytest.mark.parametrize("labels", [(0, 0), (0, 0, 0, 1, 1, 3), (-1, 0, 0, 1, 1, 2)])
def test_labels_that_do_not_fit_are_not_counted(labelled_run, labels):
    run = labelled_run(labels=labels, unfolded=(0, 1, 1, 1, 0, 2))
    assert predictions(run) == {}


def test_the_most_frequent_confusions_come_first(labelled_run):
    text = render(labelled_run(unfolded=(0, 1, 1, 1, 0, 2)), "md")
    text = text.partition("Most frequent confusions")[2]
    rows = [line for line in text.splitlines() if line.startswith(("| cat", "| dog"))]
    assert [[cell.strip() for cell in row.split("|")[1:5]] for row in rows[:2]] == [
        ["cat", "dog", "2", "3"],
        ["dog", "cat", "1", "2"],
    ]


def test_a_contender_that_differs_is_held_against_the_reference(labelled_run):
    run = labelled_run(unfolded=(0, 0, 1, 1, 0, 2), folded=(0, 1, 0, 1, 0, 2))
    (pair,) = overlaps((("mine", run),))
    assert (pair.a, pair.b) == ("torch/unfolded/cpu", "torch/folded/cpu")
    assert pair.counts == ContingencyTable(3, 1, 1, 1)
    assert (pair.counts.images, pair.counts.p_value) == (6, 1.0)


def test_contenders_with_the_same_classes_make_no_pair(labelled_run):
    same = (0, 0, 1, 1, 0, 2)
    assert not list(overlaps((("mine", labelled_run(unfolded=same, folded=same)),)))


def test_two_networks_are_compared_on_the_same_images_only(labelled_run, build):
    a = labelled_run("a", unfolded=(0, 0, 1, 1, 0, 2))
    b = labelled_run("b", unfolded=(0, 1, 1, 1, 1, 2))
    (pair,) = overlaps((("a", a), ("b", b)))
    assert pair.counts == ContingencyTable(3, 1, 1, 1)
    other = labelled_run("b", evaluation=build.sha("0"), unfolded=(0, 1, 1, 1, 1, 2))
    assert not list(overlaps((("a", a), ("b", other))))


def test_a_report_and_the_command_count_the_same_errors(labelled_run):
    a = labelled_run("a", unfolded=(0, 0, 1, 1, 0, 1))
    b = labelled_run("b", unfolded=(0, 1, 1, 1, 1, 1))
    (pair,) = overlaps((("a", a), ("b", b)))
    found = compare_errors(a, b, np.array(LABELS))
    counts = pair.counts
    assert counts == ContingencyTable(2, 1, 1, 2)
    assert (found.only_a, found.only_b, found.both) == (1, 1, 2)
    assert (found.images, found.p_value) == (counts.images, counts.p_value)


def test_runs_whose_labels_differ_were_not_scored_on_the_same_images(labelled_run):
    a = labelled_run("a", unfolded=LABELS)
    b = labelled_run("b", labels=LABELS[::-1], unfolded=LABELS)
    assert not list(overlaps((("a", a), ("b", b))))
    with pytest.raises(RunError):
        require_same_test_images(a, b)


def test_the_page_has_the_matrix_with_its_counts_as_a_table(labelled_run):
    page = render(labelled_run(unfolded=(0, 1, 1, 1, 0, 2)), "html")
    assert "Confusion matrix of mine, PyTorch eager" in page
    assert "3 of 6 images" in page


def test_many_classes_are_drawn_without_numbers(labelled_run, build):
    names = tuple(f"class {i}" for i in range(60))
    data = build.data(classes=names, test_count=60)
    rng = np.random.default_rng(0)
    top1 = tuple(int(i) for i in rng.integers(0, 60, 60))
    accuracy = build.accuracy(1, 60).model_copy(update={"top1": top1})
    run = build.run(
        checkpoint=build.checkpoint("many", data=data),
        labels=tuple(range(60)),
        measurements=(build.row("torch", "unfolded", accuracy=accuracy),),
    )
    page = render(run, "html")
    drawn = page[page.index('id="figure-confusion"') :].split("</svg>")[0]
    assert drawn.count("<rect") == 60 * 60
    assert 'class="count' not in drawn


def test_the_accuracy_of_each_class_is_one_option_away_and_the_lowest_comes_first(labelled_run):
    run = labelled_run(unfolded=(0, 1, 1, 1, 0, 2))
    shown = render(run, "terminal", per_class=True)
    assert "Accuracy by class" not in render(run, "terminal")
    table = shown.partition("Accuracy by class")[2]
    lines = [line.split() for line in table.splitlines()]
    rows = [line for line in lines if line[:1] in (["cat"], ["dog"], ["eel"])][:2]
    assert [row[:3] for row in rows] == [["cat", "3", "1"], ["dog", "2", "1"]]

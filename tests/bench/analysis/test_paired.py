"""Another order of classes is called better where it is, and never by chance."""

import numpy as np
import pytest

import builders as B
from foldbench.bench.analysis.advice.rules import advise
from foldbench.bench.analysis.paired import find_better_order, is_far_better
from foldbench.bench.records import InputProbe
from foldbench.reports.sections.compose import build

CLASSES = ("cat", "dog", "emu", "fox")


def answers(count: int, right: float, order: list[int], seed: int = 0) -> tuple:
    """Return labels, and answers that are `order` of them in a share `right` of the images."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(order), count)
    guessed = random.integers(0, len(order), count)
    return labels, np.where(random.random(count) < right, np.array(order)[labels], guessed)


def test_a_permuted_network_is_found_out_with_its_order() -> None:
    found = find_better_order(*answers(200, 0.7, [2, 0, 1, 3]), 4)
    assert found is not None
    assert set(found.moved) == {(0, 2), (1, 0), (2, 1)}
    assert found.stated_correct < 100 < found.correct


def test_one_class_more_at_the_beginning_is_found_out() -> None:
    labels, found = answers(400, 0.8, [1, 2, 3, 0])
    assert find_better_order(labels, found, 4) is not None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("right", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("count", "classes"), [(20, 2), (200, 4), (1000, 200)])
def test_a_bad_network_in_the_right_order_is_not_accused(
    seed: int, right: float, count: int, classes: int
) -> None:
    assert find_better_order(*answers(count, right, list(range(classes)), seed), classes) is None


def test_a_network_that_says_one_class_for_everything_is_not_accused() -> None:
    labels = np.arange(200) % 4
    assert find_better_order(labels, np.zeros(200, np.int64), 4) is None


@pytest.mark.parametrize(
    ("gained", "lost", "images", "expected"),
    [(60, 0, 128, True), (60, 50, 128, False), (3, 0, 20, False), (40, 0, 1000, False)],
)
def test_far_better_is_much_and_significant(
    gained: int, lost: int, images: int, expected: bool
) -> None:
    assert is_far_better(gained, lost, images) is expected


def run_of(labels: np.ndarray, found: np.ndarray, **accuracy: object):
    correct = int((labels == found).sum())
    scored = B.make_accuracy(correct, len(labels)).model_copy(
        update={"top1": tuple(found.tolist()), **accuracy}
    )
    row = B.make_row("torch", "unfolded", accuracy=scored)
    checkpoint = B.make_checkpoint(data=B.make_data(classes=CLASSES))
    return B.make_run(measurements=(row,), labels=tuple(labels.tolist()), checkpoint=checkpoint)


def test_the_report_warns_of_another_order() -> None:
    run = run_of(*answers(200, 0.9, [1, 0, 2, 3]))
    (advice,) = [a for a in advise(run) if a.kind == "other_order"]
    assert "cat is its dog" in str(advice.numbers["moved"])
    assert advice.numbers["better_ratio"] > 0.8 > advice.numbers["stated_ratio"]
    assert not [a for a in advise(run_of(*answers(200, 0.9, [0, 1, 2, 3]))) if "other" in a.kind]


def test_the_report_warns_of_the_input_that_does_best() -> None:
    def probe(what: str, gained: int) -> InputProbe:
        return InputProbe(
            what=what, images=128, stated_correct=30, correct=30 + gained, gained=gained, lost=0
        )

    probes = (probe("0..1", 20), probe("swapped channels", 80), probe("ImageNet", 2))
    labels, found = answers(200, 0.3, [0, 1, 2, 3])
    run = run_of(labels, found, input_probes=probes)
    (advice,) = [a for a in advise(run) if a.kind == "other_input"]
    assert "BGR" in str(advice.numbers["what"])
    assert advice.numbers["better_ratio"] == 110 / 128


def test_what_makes_answers_wrong_is_said_before_anything_else() -> None:
    run = run_of(*answers(200, 0.9, [1, 0, 2, 3]))
    document = build([run])
    assert "cat is its dog" in document.answer[0]
    right = build([run_of(*answers(200, 0.9, [0, 1, 2, 3]))])
    assert not any("cat is its dog" in sentence for sentence in right.answer)

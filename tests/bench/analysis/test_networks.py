"""Several networks in the same rounds."""

import math

import pytest

import builders as B
from foldbench.bench.analysis.networks import accuracy_pairs, grouped, network_rows
from foldbench.bench.analysis.speedups import keeps_accuracy
from foldbench.bench.records import Run

LABELS = tuple(n % 10 for n in range(200))


def answers(wrong: range) -> tuple[int, ...]:
    return tuple((label + 1) % 10 if n in wrong else label for n, label in enumerate(LABELS))


def scored(wrong: range, **agreement: float):
    accuracy = B.make_accuracy(200 - len(wrong), 200, **agreement)
    return accuracy.model_copy(update={"top1": answers(wrong)})


def network(name: str, seconds: float, wrong: range, **changes) -> Run:
    row = B.make_row(
        "torch",
        "unfolded",
        accuracy=scored(wrong),
        timings=(B.make_timing(1, B.steady(seconds)),),
    )
    fields = {"name": name, "labels": LABELS, "group": "a" * 64, "reference_network": "slow"}
    return B.make_run(measurements=(row,), **{**fields, **changes})


def test_runs_that_took_no_turns_with_one_another_are_no_group() -> None:
    runs = [network("slow", 0.004, range(20)), network("quick", 0.002, range(20), group=None)]
    assert grouped(runs) == ()
    assert grouped(runs[:1]) == ()
    assert len(grouped([runs[0], runs[0]])) == 2


def test_a_network_is_held_against_the_reference_round_by_round() -> None:
    slow, quick = network("slow", 0.004, range(20)), network("quick", 0.002, range(20))
    rows = network_rows([quick, slow])
    by_name = {row.run.name: row for row in rows}
    assert by_name["slow"].speedup is None
    speedup = by_name["quick"].speedup
    assert speedup is not None
    assert speedup.point == pytest.approx(2.0, rel=0.02)
    assert by_name["quick"].verdict == "faster"


def test_only_networks_that_no_other_beats_in_both_are_on_the_front() -> None:
    runs = [
        network("slow", 0.004, range(20)),
        network("quick", 0.002, range(30)),
        network("worse", 0.005, range(40)),
    ]
    assert [row.run.name for row in network_rows(runs) if row.on_front] == ["slow", "quick"]


def test_p_values_are_adjusted_for_the_number_of_networks() -> None:
    runs = [
        network("slow", 0.004, range(20)),
        network("a", 0.004, range(26)),
        network("b", 0.004, range(30)),
    ]
    first, second = accuracy_pairs(runs)
    assert first.difference == pytest.approx(-0.03)
    assert first.p_value == pytest.approx(2 * 0.5**6)  # 6 images, one way: the larger, as it is
    assert second.p_value == pytest.approx(2 * 2 * 0.5**10)  # 10 images, times 2 networks


@pytest.mark.parametrize(
    ("changed", "correct", "kept"),
    [(0, 180, True), (1, 180, False), (40, 140, False)],
)
def test_a_row_keeps_the_accuracy_where_the_interval_of_its_loss_does(
    changed: int, correct: int, kept: bool
) -> None:
    reference = B.make_row("torch", "unfolded", accuracy=scored(range(20)))
    accuracy = B.make_accuracy(correct, 200, top1_equal=200 - changed)
    run = B.make_run(measurements=(reference, B.make_row("ort", "int8", accuracy=accuracy)))
    assert keeps_accuracy(run, run.measurements[0])
    assert keeps_accuracy(run, run.measurements[1]) is kept


@pytest.mark.parametrize(
    ("precision", "difference", "kept"),
    [
        ("float32", 9e-4, True),
        ("float32", 2e-3, False),
        ("float32", math.nan, True),
        ("tf32", 2e-3, True),
        ("tf32", 0.02, False),
        ("int8", 0.02, True),
    ],
)
def test_answers_that_rounding_does_not_explain_keep_nothing(
    precision: str, difference: float, kept: bool
) -> None:
    accuracy = B.make_accuracy(max_rel_difference=difference)
    run = B.make_run(measurements=(B.make_row("ort", "x", accuracy=accuracy, precision=precision),))
    assert keeps_accuracy(run, run.measurements[0]) is kept

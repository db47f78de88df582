"""The answer says what the verdicts say, and no more."""

import pytest

from foldbench.reports.render import render
from foldbench.reports.sections.answer import build_answer
from foldbench.reports.sections.headline import build_headline


def answer(*runs):
    labels = [run.name for run in runs]
    return build_answer(tuple(zip(labels, runs, strict=True)))


def against_torch(build, *rows, **changes):
    """A run of unfolded torch (2 ms at batch 1) and `rows`, with its self-checks."""
    reference = build.row("torch", "unfolded", timings=(build.timing(1, build.steady(0.002)),))
    again = build.self_check("again", 0.002, 0.064)
    return build.run(measurements=(reference, *rows, again), **changes)


def taking(build, seconds, variant="folded", **changes):
    timing = build.timing(1, build.steady(seconds, period=3), **changes.pop("timing", {}))
    return build.row("ort", variant, timings=(timing,), **changes)


def test_what_is_faster_is_named_with_its_interval_and_its_agreement(build):
    first, *_ = answer(against_torch(build, taking(build, 0.001)))
    for fact in (
        "ONNX Runtime (folded) is 2.00 times",
        "1.99–2.01",
        "PyTorch eager",
        "10,000 of 10,000",
    ):
        assert fact in first


def test_images_with_another_class_are_counted_in_the_same_sentence(build):
    row = taking(build, 0.001, accuracy=build.accuracy(7590, top1_equal=9941))
    first, *_ = answer(against_torch(build, row))
    assert "9,941 of 10,000" in first


def test_a_row_with_other_answers_is_not_the_fastest_and_is_named_beside_it(build):
    off = build.accuracy(max_rel_difference=0.03)
    rows = taking(build, 0.001), taking(build, 0.0005, "plain", accuracy=off)
    run = against_torch(build, *rows)
    first, *_ = answer(run)
    assert "ONNX Runtime (folded) is 2.00 times" in first
    assert "with other answers: ONNX Runtime (plain export) 4.0" in first
    (told, *_) = build_headline(((run.name, run),))
    assert "ONNX Runtime (folded) is 2.00x" in told
    assert "With other answers: ONNX Runtime (plain export), 4.0" in told


def test_nothing_is_called_faster_where_nothing_is_resolved(build):
    first, *rest = answer(against_torch(build, taking(build, 0.00199)))
    assert "no significant difference" in first
    assert "ONNX Runtime (folded)" in first
    assert not any("times as fast" in line for line in (first, *rest))


def test_what_is_slower_is_said_too(build):
    rows = taking(build, 0.001), taking(build, 0.004, "unfolded")
    first, *_ = answer(against_torch(build, *rows))
    assert "slower: ONNX Runtime (not folded) 0.50" in first
    (alone, *_) = answer(against_torch(build, rows[1]))
    assert "nothing is faster" in alone
    assert "slower: ONNX Runtime (not folded) 0.50" in alone


def test_a_rival_whose_interval_overlaps_is_named(build):
    rows = taking(build, 0.001), taking(build, 0.0010001, "unfolded")
    first, *_ = answer(against_torch(build, *rows))
    assert "ONNX Runtime (not folded) overlaps" in first


def in_four_processes(build, backend, variant, seconds):
    """A row whose time a call is one of `seconds` in each of four processes, of five rounds."""
    block_s = [seconds[n // 5] * (1 + 0.0005 * (-1) ** n) for n in range(20)]
    timing = build.timing(1, block_s, processes=4)
    return build.row(backend, variant, timings=(timing,))


def test_what_does_not_stand_among_all_rows_is_marked_and_not_claimed(build):
    reference = in_four_processes(build, "torch", "unfolded", [0.002] * 4)
    uneven = in_four_processes(
        build, "ort", "folded", [0.002 / r for r in (1.10, 1.22, 1.15, 1.06)]
    )
    others = [
        in_four_processes(build, "ort", f"folded_{n}", [0.00202, 0.00198, 0.00201, 0.00199])
        for n in range(5)
    ]
    alone = build.run(measurements=(reference, uneven))
    first, *_ = answer(alone)
    assert "ONNX Runtime (folded) is 1.1 times" in first
    assert "20 in 4" in " ".join(render(alone).split())
    among = build.run(measurements=(reference, uneven, *others))
    first, *_ = answer(among)
    assert "no significant difference" in first
    assert "(unadjusted)" in render(among)


def test_a_loaded_machine_gives_no_answer(build):
    busy = {"timing": {"dirty": range(1, 10)}}
    first, *_ = answer(against_torch(build, taking(build, 0.001, **busy)))
    assert "too few rounds" in first
    assert "times" not in first


def test_who_could_not_be_judged_is_named_beside_who_could(build):
    busy = {"timing": {"dirty": range(1, 10)}}
    rows = taking(build, 0.001), taking(build, 0.001, "unfolded", **busy)
    first, *_ = answer(against_torch(build, *rows))
    assert "to judge ONNX Runtime (not folded)" in first


def test_without_unfolded_torch_there_are_medians_alone(build):
    first, *_ = answer(build.run(measurements=(taking(build, 0.001),)))
    assert "no speed-up" in first
    assert "1.00 ms at batch 1" in first


def test_what_did_not_run_is_counted(build):
    lost = build.lost_row("ort", "folded", "cuda", "failed", "no provider")
    *_, last = answer(against_torch(build, lost))
    assert last.startswith("1 row did not run")


def test_nothing_that_ran_is_no_claim_at_all(build):
    lost = build.lost_row("torch", "unfolded", "cpu", "failed", "out of memory")
    (only,) = answer(build.run(measurements=(lost,)))
    assert only.startswith("1 row did not run")


def test_a_resolved_batch_size_comes_before_one_that_is_not(build):
    row = build.row("ort", "folded", timings=build.timings(0.00199, 0.020))
    reference = build.row("torch", "unfolded")
    lines = answer(build.run(measurements=(reference, row)))
    assert lines[0].startswith("At batch 64, ONNX Runtime (folded)")
    assert lines[1].startswith("At batch 1, no")


def test_at_each_batch_size_the_devices_come_in_the_order_they_were_measured_in(build):
    sizes = (1, 2, 4, 8, 16)

    def rows(backend: str, variant: str, seconds: float):
        times = tuple(build.timing(size, build.steady(seconds)) for size in sizes)
        return [
            build.row(backend, variant, timings=times, requested_device=device)
            for device in ("cuda", "cpu")
        ]

    measured = (*rows("torch", "unfolded", 0.002), *rows("ort", "folded", 0.001))
    found = [line.partition(" is 2.00 ")[0] for line in answer(build.run(measurements=measured))]
    assert found[: 2 * len(sizes)] == [
        f"At batch {size}, {name}"
        for size in sizes
        for name in ("ONNX Runtime (folded, CUDA)", "ONNX Runtime (folded)")
    ]


def test_runs_that_agree_on_the_fastest_share_one_sentence(build):
    runs = [against_torch(build, taking(build, s), name=f"n{s}") for s in (0.001, 0.0005)]
    first, *_ = answer(*runs)
    for fact in ("in every run", "as fast with n0.001", "4.00 (3.98–4.02) with n0.0005"):
        assert fact in first


def test_runs_that_do_not_agree_have_a_sentence_each(build):
    runs = [against_torch(build, taking(build, s), name=f"n{s}") for s in (0.001, 0.004)]
    first, second, *_ = answer(*runs)
    assert "n0.001: ONNX Runtime (folded) is 2.00" in first
    assert "n0.004: nothing is faster" in second


@pytest.mark.parametrize(
    ("correct", "said"),
    [
        (7601, "76.01 % (75.16–76.84) for every contender"),
        (7501, "76.01 % (75.16–76.84) for PyTorch eager, others up to -1.00 points from it"),
    ],
)
def test_accuracy_is_the_references_with_the_widest_gap_of_the_others(build, correct, said):
    row = taking(build, 0.001, accuracy=build.accuracy(correct))
    lines = answer(against_torch(build, row))
    (accuracy,) = (line for line in lines if line.startswith("Accuracy"))
    assert said in accuracy
    assert "homework reports 76.27 %" in accuracy


@pytest.mark.parametrize(
    "repeated",
    [{"tested_and_trained": 101}, {"of_two_classes": 601}],  # of 10,000 test and 60,000 images
)
def test_repeated_images_are_told_first_above_one_in_a_hundred(build, repeated):
    def with_data(**counts):
        row = taking(build, 0.001)
        return answer(against_torch(build, row, data=build.data(**counts)))

    first, *rest = with_data(**repeated)
    few = {name: count - 1 for name, count in repeated.items()}
    assert str(*repeated.values()) in first
    assert tuple(rest) == with_data(**few) == with_data()

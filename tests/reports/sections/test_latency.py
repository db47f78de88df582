"""Speed-ups as a reader meets them: from clean rounds alone, with a verdict, beside self-checks."""

import json
from dataclasses import replace

import pytest

from foldbench.bench import records
from foldbench.reports.render import render
from foldbench.reports.rows.latency import latency_rows

LATENCY = "End-to-end latency (host to host)"


def lines_of(text, title):
    return text[text.index(f"\n{title}\n") :].strip("\n").split("\n\n")[0].splitlines()


def words_of(text, title, contender):
    return next(line for line in lines_of(text, title) if contender in line).split()


def rows_of(run, table="latency"):
    return json.loads(render(run, "json"))["runs"][0][table]


def only(build, backend, *block_s, variant="folded", **changes):
    return build.row(backend, variant, timings=(build.timing(1, block_s, **changes),))


def against_torch(build, *block_s, rounds=12, **changes):
    """A run of unfolded torch at 2 ms and of one other row."""
    reference = only(build, "torch", *build.steady(0.002, rounds), variant="unfolded")
    return build.run(measurements=(reference, only(build, "ort", *block_s, **changes)))


def test_dirty_rounds_count_neither_in_the_median_nor_the_p95_nor_the_speed_up(build):
    row = rows_of(against_torch(build, *[0.001] * 12, dirty=(2, 5)))[1]
    assert (row["clean_rounds"], row["rounds"], row["calls"]) == (10, 12, 240)
    assert row["median_s"] == pytest.approx(0.001)
    assert row["p95_s"] == pytest.approx(0.001, rel=0.001)
    assert row["speedup_ratio"] == pytest.approx(2.0, rel=0.01)


def test_a_round_in_which_only_the_reference_was_disturbed_is_no_clean_pair(build):
    reference = only(build, "torch", *[0.002] * 12, variant="unfolded", dirty=(0, 1))
    run = build.run(measurements=(reference, only(build, "ort", *[0.001] * 12, dirty=(1, 2))))
    assert [row["clean_rounds"] for row in rows_of(run)] == [10, 9]


def test_calls_of_dirty_rounds_do_not_make_up_the_number_that_a_p95_takes(build):
    row = rows_of(against_torch(build, *[0.001] * 12, calls=17, dirty=(2,)))[1]
    assert (row["calls"], row["p95_s"]) == (204, None)


def test_without_enough_clean_rounds_the_floor_stands_marked_and_alone(build):
    run = against_torch(build, *[0.001] * 12, dirty=range(7), stopped="budget")
    text = render(run)
    assert words_of(text, LATENCY, "ort/folded/cpu")[4:7] == ["≈1.99", "(best", "case)"]
    assert words_of(text, LATENCY, "ort/folded/cpu")[7:] == ["1–3"]
    assert "too few clean rounds" in " ".join(lines_of(text, LATENCY))
    row = rows_of(run)[1]
    assert row["speedup_floor_ratio"] == pytest.approx(1.99, rel=0.01)
    assert [row[name] for name in ("speedup_ratio", "speedup_low", "verdict")] == [None] * 3


def test_where_every_round_is_clean_no_floor_is_spoken_of(build):
    assert "(best case)" not in render(build.run())


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0.001, "faster"), (0.0025, "slower"), (0.00195, "not significant")]
)
def test_the_verdict_takes_a_difference_above_3_percent(build, seconds, verdict):
    text = render(against_torch(build, *build.steady(seconds, 12, 3)))
    assert " ".join(words_of(text, LATENCY, "ort/folded/cpu")[7:]) == f"12 in 1 {verdict}"


def test_no_verdict_is_below_the_difference_of_the_reference_from_itself(build):
    run = against_torch(build, *build.steady(0.0018, 12, 3))
    again = build.self_check(
        "again", 1, 1, timings=(build.timing(1, build.steady(0.00175, 12, 3)),)
    )
    assert rows_of(run)[1]["verdict"] == "faster"
    doubtful = run.model_copy(update={"measurements": (*run.measurements, again)})
    row = rows_of(doubtful)[1]
    assert row["verdict"] == "no difference resolved"
    assert row["noise_floor"] == pytest.approx(0.14, abs=0.01)


def test_self_checks_stand_in_their_own_table_and_in_no_other(build):
    text = render(build.run())
    for title in ("Accuracy", LATENCY, "Agreement with PyTorch eager", "Did not run"):
        assert not [line for line in lines_of(text, title) if "again" in line or "1 thread" in line]
    again = words_of(text, "Self-checks", "torch/unfolded/cpu again")
    assert again[-2:] == ["not", "significant"]
    assert words_of(text, "Self-checks", "torch/unfolded/cpu 1 thread") == [
        *["torch/unfolded/cpu", "1", "thread"],
        *["1", "1.70", "1.68–1.72"],
    ]


def test_the_reference_against_itself_is_judged_without_itself_as_the_floor(build):
    again = build.self_check("again", 0.0018, 0.064)
    run = build.run(measurements=(build.row("torch", "unfolded"), again))
    first = rows_of(run, "self_checks")[0]
    assert (first["role"], first["verdict"]) == ("again", "faster")
    assert words_of(render(run), "Self-checks", "again")[-2:] == ["faster", "1"]


def test_a_self_check_that_failed_shows_its_reason_and_nothing_else(build):
    lost = build.self_check(
        "again", 0.002, 0.064, timings=(), status="failed", reason="it ran out of memory"
    )
    text = render(build.run(measurements=(build.row("torch", "unfolded"), lost)))
    assert words_of(text, "Self-checks", "again") == ["torch/unfolded/cpu", "again", "failed"]
    assert lines_of(text, "Self-checks")[-1].split("  ")[-1] == lost.reason
    assert "Did not run" not in text


def test_a_run_without_self_checks_has_no_such_section(build):
    text = render(build.run(measurements=(build.row("torch", "unfolded"),)))
    assert "Self-checks" not in text
    assert "Speed-up of each repetition" not in text


def test_repetitions_are_given_one_by_one_with_their_range(build):
    thrice = [0.001] * 4 + [0.0011] * 4 + [0.00105] * 4
    reference = only(build, "torch", *[0.002] * 12, variant="unfolded", repeats=3)
    run = build.run(measurements=(reference, only(build, "ort", *thrice, repeats=3)))
    words = words_of(render(run), "Speed-up of each repetition", "ort/folded/cpu")
    assert words == ["ort/folded/cpu", "1", "1.82–2.00", "2.00,", "1.82,", "1.90"]
    assert rows_of(run)[1]["speedup_repeats"] == pytest.approx([2.0, 1.818, 1.905], rel=0.001)


def test_a_loaded_row_gets_no_plain_ratio_by_repetition_either(build):
    reference = only(build, "torch", *[0.002] * 12, variant="unfolded", repeats=3)
    disturbed = only(build, "ort", *[0.001] * 12, repeats=3, dirty=range(9))
    text = render(build.run(measurements=(reference, disturbed)))
    assert "Speed-up of each repetition" not in text


def test_rows_on_cuda_0_are_held_against_unfolded_torch_on_cuda_0(build):
    on_gpu = {"requested_device": "cuda", "actual_device": "cuda:0"}
    fast = (build.timing(1, [0.0005] * 10),)
    run = build.run(
        measurements=(
            build.row("torch", "unfolded"),
            build.row("torch", "unfolded", **on_gpu, timings=(build.timing(1, [0.001] * 10),)),
            build.row("ort", "folded", **on_gpu, timings=fast),
        )
    )
    row = rows_of(run)[-1]
    assert (row["speedup_reference"], row["verdict"]) == ("torch/unfolded/cuda", "faster")
    assert row["speedup_ratio"] == pytest.approx(2.0)
    warnings = rows_of(run, "warnings")
    assert "misplaced" not in [warning["kind"] for warning in warnings]


def test_the_page_says_what_starting_cost_and_why_the_rounds_ended(build):
    text = render(against_torch(build, *[0.001] * 12, dirty=(2, 5), stopped="narrow"), "md")
    table = text[text.index("## Start-up and timed calls") :].split("\n\n")[1].splitlines()
    heading, row = ([c.strip() for c in line.split("|")[1:-1]] for line in (table[0], table[-1]))
    found = dict(zip(heading, row, strict=True))
    assert found["import s"] == "1.40"
    assert found["first run s"] == "0.0250"
    assert found["peak memory"] == "384 MiB"
    assert found["converged"] == "yes"
    assert found["clean rounds"] == "10/12"
    assert found["stopped because"] == "intervals narrow enough"


def test_the_method_says_what_was_wanted_and_how_it_ended(build):
    config = build.config()
    config = {**config, "compare": {**config["compare"], "repeat": 3}}
    text = " ".join(
        " ".join(lines_of(render(build.run(config=config)), "How this was measured")).split()
    )
    for fact in ("10 clean rounds", "reference is timed twice", "3 times in all", "budget 120 s"):
        assert fact in text
    assert text.count("all clean rounds made") == 2, "at batch 1 and at batch 64"
    assert "2 threads on" in text, "the check with one thread is no setting"
    assert "0.0300 cores busy" in text


def test_json_holds_what_the_machine_said_about_itself(build):
    (found,) = json.loads(render(build.run(), "json"))["runs"]
    assert (found["budget_s"], found["foreign_load_cores"]) == (120.0, 0.03)
    assert [row["role"] for row in found["self_checks"]] == ["again"] * 2 + ["one_thread"] * 2
    again, one_thread = found["self_checks"][0], found["self_checks"][2]
    assert again["low"] < 1 < again["high"]
    assert one_thread["least"] < one_thread["ratio"] < one_thread["most"]


def test_without_a_reference_a_round_that_was_timed_again_is_one_round(build):
    dirty, clean = build.timing(1, [0.001, 0.001], dirty=(0,)).blocks
    blocks = [replace(block, round=number) for number in (1, 2) for block in (dirty, dirty, clean)]
    timing = build.timing(1, [0.001], blocks=tuple(blocks))
    (row,) = latency_rows(build.run(measurements=(build.row("ort", "folded", timings=(timing,)),)))
    assert (row.speedup_reference, row.calls) == (None, 120)
    assert (row.rounds, row.clean_rounds) == (2, 2)


@pytest.mark.parametrize(
    ("needed_s", "told"),
    [
        (18.0, "budget spent (blocks shortened to 5 calls and 40.0 ms)"),
        (55.0, "budget spent (8 rounds need about 55.0 s, their share was 25.0 s)"),
    ],
)
def test_the_page_says_what_the_budget_did_to_the_rounds(build, needed_s, told):
    short = records.Shortage(rounds=8, needed_s=needed_s, budget_s=25, calls=5, block_s=0.04)
    run = against_torch(build, *[0.001] * 9, stopped="budget", shortage=short)
    lines = lines_of(render(run), "How this was measured")
    assert told in " ".join(" ".join(lines).split())

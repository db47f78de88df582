"""Each warning appears when its cause does, with the numbers, and not otherwise."""

import re
from dataclasses import replace

import pytest

import builders as B
from foldbench.bench.analysis.advice.rules import RULES, advise
from foldbench.bench.records import (
    Clocks,
    InputProbe,
    MatmulRate,
    Parity,
    PeakThroughput,
    Shortage,
    Skip,
)
from foldbench.reports.rows.latency import latency_rows
from foldbench.reports.sections.notes import sentence

UNCOMPARED = B.make_accuracy().model_copy(update={"agreement": None})
REFERENCE = B.make_row("torch", "unfolded")


def run_with(*rows, **changes):
    return B.make_run(measurements=(REFERENCE, *rows), **changes)


def folded_artifact(**changes):
    return {"artifacts": (B.make_artifact("folded", **changes),)}


def timed(*block_s, **changes):
    return B.make_row("ort", "folded", timings=(B.make_timing(1, block_s, **changes),))


def reference_timed(rounds, **changes):
    return B.make_row(
        "torch", "unfolded", timings=(B.make_timing(1, B.steady(0.002, rounds), **changes),)
    )


SWAPPED = tuple({0: 1, 1: 0}.get(n % 10, n % 10) for n in range(200))
BETTER_INPUT = InputProbe(
    what="ImageNet", images=128, stated_correct=32, correct=96, gained=70, lost=6
)


def remedies(text):
    """The settings and options that a sentence says to give, with their values."""
    return re.findall(r"compare\.\w+(?:=\d+)?|--\w+ \d+s", text)


MILLISECOND = [0.001] * 10
JUMPY = [0.001, 0.00104, 0.00102, 0.00101, 0.00103] * 2
TWO_STATES = [0.001, 0.00106, 0.001, 0.001, 0.00106, 0.001, 0.001, 0.001, 0.00106, 0.001]


def peak_of(flops_per_s):
    """A network of a million operations on a CPU of this matmul throughput."""
    rate = MatmulRate(
        device="cpu",
        precision="float32",
        threads=1,
        size=100,
        samples_s=(2e6 / flops_per_s,),
        clean=(True,),
    )
    return PeakThroughput(flops_per_image=1_000_000, matmul_rates=(rate,))


def clocked(*clocks, device="cuda"):
    """A row on the GPU (or the reference on the CPU) whose blocks had these clocks in turn."""
    blocks = B.make_timing(1, B.steady(0.001, 10)).blocks
    seen = tuple(replace(block, clocks=clocks[n % len(clocks)]) for n, block in enumerate(blocks))
    timings = (B.make_timing(1, MILLISECOND, blocks=seen),)
    on = {"requested_device": device, "actual_device": "cuda:0" if device == "cuda" else "cpu"}
    return B.make_run(measurements=(B.make_row("torch", "unfolded", timings=timings, **on),))


def driven(scenario, **changes):
    result = B.make_scenario(scenario, **changes)
    return run_with(B.make_row("ort", "folded", timings=(), scenarios=(result,)))


CAUSES = {
    "interrupted": (
        run_with(timed(*[0.001] * 8, calls=30, stopped="interrupted"), interrupted=True),
        {"reached": "after round 9 of 10 at batch 1; 9 of 10 at batch 64"},
    ),
    "resumed": (
        run_with(B.make_row("ort", "folded"), resumed=("2026-11-27T20:00:00+00:00",)),
        {"sessions_count": 2},
    ),
    "scenario_invalid": (
        driven("server", validity="INVALID", reasons=("Reduce target QPS.", "Early stopping: no")),
        {"reason": "Reduce target QPS"},
    ),
    "scenario_loaded": (
        driven("singlestream", foreign_load_cores=1.25, run_delay_ratio=0.311),
        {"cores": 1.25, "limit_cores": 0.2, "delay_ratio": 0.311, "limit_ratio": 0.05},
    ),
    "trained_on": (
        run_with(B.make_row("ort", "folded"), data=B.make_data(tested_and_trained=250)),
        {"found_count": 250, "images_count": 10_000, "found_ratio": 0.025},
    ),
    "two_classes": (
        run_with(B.make_row("ort", "folded"), data=B.make_data(of_two_classes=6)),
        {"found_count": 6, "images_count": 60_000},
    ),
    "other_order": (
        B.make_run(
            measurements=(
                B.make_row(
                    "torch",
                    "unfolded",
                    accuracy=B.make_accuracy(160, 200).model_copy(update={"top1": SWAPPED}),
                ),
            ),
            labels=tuple(n % 10 for n in range(200)),
        ),
        {"stated_ratio": 0.8, "better_ratio": 1.0},
    ),
    "other_input": (
        run_with(
            B.make_row(
                "ort",
                "folded",
                accuracy=B.make_accuracy().model_copy(update={"input_probes": (BETTER_INPUT,)}),
            )
        ),
        {"images_count": 128, "stated_ratio": 0.25, "better_ratio": 0.75},
    ),
    "large_batch": (
        run_with(B.make_row("ort", "folded"), data=B.make_data(test_count=2)),
        {"images_count": 2},
    ),
    "impossible": (
        run_with(timed(*B.steady(0.001, 10)), arithmetic=peak_of(0.2e9)),
        {"share_ratio": 5.0, "limit_ratio": 4.0},
    ),
    "no_reference": (
        B.make_run(measurements=(B.make_row("ort", "folded", accuracy=UNCOMPARED),)),
        {"reference": "torch/unfolded/cpu"},
    ),
    "at_chance": (
        run_with(B.make_row("ort", "folded", accuracy=B.make_accuracy(1003))),
        {"accuracy_ratio": 0.1003, "chance_ratio": 0.1},
    ),
    "disagreement": (
        run_with(B.make_row("ort", "folded", accuracy=B.make_accuracy(top1_equal=9988))),
        {"different_count": 12, "images_count": 10000, "reference": "torch/unfolded/cpu"},
    ),
    "other_answers": (
        run_with(
            B.make_row("openvino", "folded", accuracy=B.make_accuracy(max_rel_difference=0.03))
        ),
        {
            "off_ratio": 0.03,
            "limit_ratio": 0.001,
            "precision": "float32",
            "reference": "torch/unfolded/cpu",
        },
    ),
    "misplaced": (
        run_with(B.make_row("ort", "folded", requested_device="cuda", actual_device="cpu")),
        {"requested": "cuda", "actual": "cpu"},
    ),
    "made_for_cpu": (
        run_with(
            B.make_row("ort", "folded", requested_device="cuda", source_sha256=B.sha("b")),
            artifacts=(B.make_artifact("folded"),),
        ),
        {"device": "cuda"},
    ),
    "unequal_threads": (
        run_with(B.make_row("ort", "folded", threads=8)),
        {"found": "2 and 8", "most_count": 8},
    ),
    "unequal_precision": (
        run_with(B.make_row("ort", "folded", precision="bfloat16")),
        {"found": "bfloat16"},
    ),
    "loaded": (
        B.make_run(measurements=(reference_timed(14), timed(*[0.001] * 14, dirty=(1, 4, 7, 8)))),
        {
            "dirty_count": 4,
            "rounds_count": 14,
            "worst_ratio": 0.9,
            "limit_ratio": 0.05,
            "use": "they are left out",
        },
    ),
    "foreign_load": (
        run_with(timed(*MILLISECOND), foreign_load_cores=0.85),
        {"cores": 0.85, "limit_cores": 0.2},
    ),
    "stolen": (
        B.make_run(measurements=(reference_timed(10, seen={"steal_ratio": 0.031}),)),
        {"steal_ratio": 0.031, "limit_ratio": 0.01},
    ),
    "state_changed": (
        run_with(timed(*TWO_STATES)),
        {"gap_ratio": 0.06, "limit_ratio": 0.05, "what": "times"},
    ),
    "reference_differs": (
        run_with(B.make_self_check("again", 0.0019, 0.064)),
        {"off_ratio": 0.05263, "direction": "faster", "reference": "torch/unfolded/cpu"},
    ),
    "unobservable": (
        B.make_run(measurements=(reference_timed(10, seen={"run_delay_ratio": None}),)),
        {},
    ),
    "throttled": (
        clocked(Clocks(gpu_throttled=("sw_power_cap",)), Clocks(gpu_throttled=())),
        {"chip": "the GPU", "blocks_count": 5, "of_count": 10, "reasons": "its power limit"},
    ),
    "clock_moved": (
        clocked(Clocks(gpu_mhz=(1980, 1980)), Clocks(gpu_mhz=(1900, 1860))),
        {
            "chip": "GPU",
            "moved_ratio": 0.05181,
            "slowest": "1,880",
            "fastest": "1,980",
            "limit_ratio": 0.03,
        },
    ),
    "foreign_gpu": (
        clocked(Clocks(gpu_foreign_processes=0), Clocks(gpu_foreign_processes=2)),
        {"processes_count": 2},
    ),
    "not_resident": (
        run_with(B.make_row("ort", "folded", not_resident="the device went on working")),
        {"when": ""},
    ),
    "floor_only": (
        run_with(timed(*[0.001] * 7, calls=30, stopped="budget"), rounds=20, budget_s=60),
        {
            "clean_count": 7,
            "rounds_count": 7,
            "needed_count": 8,
            "remedy": "Give",
            "longer": "--budget 180s",
        },
    ),
    "few_processes": (
        run_with(
            timed(*MILLISECOND, stopped="budget"),
            rounds=20,
            budget_s=60,
            config={**B.make_config(), "compare": {"processes": 4}},
        ),
        {"made_count": 1, "asked_count": 4, "longer": "--budget 240s"},
    ),
    "budget_spent": (
        run_with(timed(*JUMPY, stopped="budget"), rounds=20, budget_s=60),
        {
            "budget_s": 60.0,
            "clean_count": 10,
            "rounds_count": 20,
            "width_ratio": 0.01485,
            "wanted_ratio": 0.01,
            "longer": "--budget 120s",
        },
    ),
    "stopped_early": (
        run_with(timed(*MILLISECOND, stopped="narrow"), rounds=20),
        {"clean_count": 10, "rounds_count": 20},
    ),
    "few_rounds": (
        run_with(timed(*[0.001] * 4, calls=60), rounds=4),
        {"rounds_count": 4, "needed_count": 5},
    ),
    "few_calls": (
        run_with(timed(*MILLISECOND, calls=6)),
        {"calls_count": 60, "needed_count": 200, "remedy": "Set compare.calls=20"},
    ),
    "noisy": (
        run_with(
            timed(*[0.001 * s for s in (1, 1.12, 1.06, 1.04, 1.08, 1.02, 1.1, 1, 1.12, 1.06)])
        ),
        {
            "spread_ratio": 0.06604,
            "limit_ratio": 0.05,
            "rounds_count": 10,
            "remedy": "set compare.rounds above 10",
        },
    ),
    "drifting": (
        run_with(timed(*[0.001] * 4, 0.00102, 0.00102, *[0.00104] * 4)),
        {"drift_ratio": 0.04, "direction": "slower", "limit_ratio": 0.03},
    ),
    "not_steady": (
        run_with(timed(*MILLISECOND, steady=False)),
        {"setting": "0.5", "longer": "1"},
    ),
    "long_tail": (
        run_with(timed(*MILLISECOND, calls=110, slow_calls=3)),
        {"p99_s": 0.005002, "median_s": 0.001, "times": 5.002},
    ),
    "tiny_call": (
        run_with(timed(*[0.00003] * 10)),
        {"median_s": 3e-05, "limit_s": 5e-05},
    ),
    "parity_failed": (
        run_with(**folded_artifact(parity=Parity(passed=False, reason="off by 3", cases=()))),
        {"reason": "off by 3"},
    ),
    "fold_without_effect": (
        run_with(
            **folded_artifact(
                fold=B.make_fold("folded", batchnorms_before=0, folded=(), agreement=None)
            )
        ),
        {},
    ),
    "folded_by_exporter": (
        run_with(**folded_artifact(folded_by=("exporter",))),
        {"exporter": "torch.onnx.export(dynamo=True)"},
    ),
    "budget_exceeded": (
        run_with(
            artifacts=(
                B.make_artifact(
                    "int8",
                    precision="int8",
                    quantization=B.make_quantization(within_budget=False, reason="3 points lost"),
                ),
            )
        ),
        {"reason": "3 points lost"},
    ),
    "no_gain": (
        run_with(
            B.make_row("ort", "folded", timings=B.make_timings(0.001, 0.032)),
            B.make_row(
                "ort",
                "int8",
                source_sha256=B.sha("8"),
                timings=B.make_timings(0.00125, 0.016),
            ),
            artifacts=(
                B.make_artifact("folded"),
                B.make_artifact("int8", sha256=B.sha("8"), quantization=B.make_quantization()),
            ),
        ),
        {"before": "ort/folded/cpu", "speedup_count": "0.800"},
    ),
    "drop_on_test": (
        run_with(
            B.make_row("ort", "folded"),
            B.make_row(
                "ort",
                "int8",
                accuracy=B.make_accuracy(7541),
                source_sha256=B.sha("8"),
                timings=B.make_timings(0.001, 0.032),
            ),
            artifacts=(
                B.make_artifact("folded"),
                B.make_artifact("int8", sha256=B.sha("8"), quantization=B.make_quantization()),
            ),
        ),
        {
            "drop_ratio": 0.006,
            "allowed_ratio": 0.005,
            "training_ratio": 0.001,
            "before": "ort/folded/cpu",
        },
    ),
    "batchnorm_left": (
        run_with(
            **folded_artifact(
                batchnorm_nodes=1,
                fold=B.make_fold(
                    "folded",
                    batchnorms_after=1,
                    skipped=(Skip(module="bn3", reason="two layers read conv3"),),
                ),
            )
        ),
        {"left_count": 1},
    ),
}


def test_a_quiet_and_complete_run_gives_no_warning():
    assert advise(run_with(B.make_row("ort", "folded"))) == ()


@pytest.mark.parametrize("kind", RULES)
def test_every_kind_of_warning_has_a_cause_that_gives_it_alone_with_its_numbers(kind):
    run, numbers = CAUSES[kind]
    found = advise(run)
    assert {advice.kind for advice in found} == {kind}
    worst = max(found, key=lambda advice: advice.severity)
    assert {name: worst.numbers[name] for name in numbers} == _near(numbers)
    assert "{" not in sentence(found)


def _near(numbers):
    """Return `numbers` to be held against those that are worked out."""
    return {
        name: pytest.approx(value, rel=1e-3) if isinstance(value, float) else value
        for name, value in numbers.items()
    }


def test_several_rows_of_one_kind_are_one_sentence_about_the_worst():
    rows = (
        B.make_row("ort", "unfolded", accuracy=B.make_accuracy(top1_equal=9999)),
        B.make_row("ort", "folded", accuracy=B.make_accuracy(top1_equal=9990)),
    )
    found = advise(run_with(*rows))
    assert [advice.subject for advice in found] == ["ort/unfolded/cpu", "ort/folded/cpu"]
    text = sentence(found)
    assert text.startswith("2 rows, at worst ONNX Runtime (folded): ")
    assert "10 of 10,000" in text


def test_rows_that_did_not_run_are_not_warned_about():
    lost = B.make_lost_row("ort", "folded", "cuda", "failed", "no driver")
    assert advise(run_with(lost)) == ()


def test_a_cuda_row_may_have_its_own_number_of_threads():
    assert advise(run_with(B.make_row("ort", "folded", requested_device="cuda", threads=1))) == ()


def test_a_row_on_cuda_0_is_where_it_was_asked_to_be_when_cuda_was_asked_for():
    row = B.make_row("ort", "folded", requested_device="cuda", actual_device="cuda:0")
    assert advise(run_with(row)) == ()


def test_dirty_rounds_make_no_row_noisy_nor_drifting():
    rounds = B.make_run(
        measurements=(reference_timed(12), timed(*[0.001] * 12, calls=20, dirty=(10, 11)))
    )
    assert advise(rounds) == ()


def test_a_row_without_a_clean_round_is_called_loaded_and_says_that_there_are_no_others():
    row = timed(*MILLISECOND, dirty=range(10), stopped="budget")
    found = {advice.kind: advice for advice in advise(run_with(row))}
    assert found.keys() == {"loaded", "floor_only"}
    partly, _ = CAUSES["loaded"]
    (left_out,) = advise(partly)
    assert found["loaded"].numbers["use"] != left_out.numbers["use"]


def retried(rounds, disturbed, ends_clean):
    """A row of `rounds` rounds; the first `disturbed` were timed five times before they ended."""
    (clean, dirty) = B.make_timing(1, [0.001, 0.001], dirty=(1,)).blocks
    blocks = []
    for number in range(rounds):
        tries = [dirty] * 5 * (number < disturbed)
        tries += [clean] * (ends_clean or number >= disturbed)
        blocks += [replace(block, round=number) for block in tries]
    return timed(0.001, blocks=tuple(blocks))


def test_a_round_that_was_clean_at_a_later_attempt_is_not_called_disturbed():
    found = [a for a in advise(run_with(retried(20, 6, ends_clean=True))) if a.kind == "loaded"]
    assert found == []


def test_a_round_that_was_never_clean_counts_once_however_often_it_was_timed():
    found = [a for a in advise(run_with(retried(20, 6, ends_clean=False))) if a.kind == "loaded"]
    (loaded,) = found
    assert (loaded.numbers["dirty_count"], loaded.numbers["rounds_count"]) == (6, 20)
    assert (loaded.numbers["worst_ratio"], loaded.severity) == (0.9, 0.3)


def test_a_warning_about_the_median_is_about_the_one_in_the_table():
    run = run_with(timed(*[1e-5] * 10, dirty=range(10)))
    (tiny,) = [advice for advice in advise(run) if advice.kind == "tiny_call"]
    shown = [row.median_s for row in latency_rows(run) if row.contender == tiny.subject]
    assert [tiny.numbers["median_s"]] == pytest.approx(shown)
    assert shown == [pytest.approx(3e-5)]


@pytest.mark.parametrize("times", [JUMPY, TWO_STATES, [0.001] * 5 + [0.0012] * 5])
def test_scatter_without_a_clean_round_is_put_down_to_what_else_ran(times):
    found = {advice.kind for advice in advise(run_with(timed(*times, dirty=range(10))))}
    assert found == {"loaded", "floor_only"}


def test_two_states_are_seen_in_the_speed_up_by_threads_where_times_hide_them():
    slow = [0.0034 * s for s in (1, 1.07, 1, 1, 1.07, 1, 1, 1, 1.07, 1)]
    row = B.make_self_check("one_thread", 1, 1, timings=(B.make_timing(1, slow),))
    (found,) = advise(run_with(row))
    assert (found.kind, found.subject, found.batch_size) == ("state_changed", row.contender, 1)


def config_with(**settings):
    config = B.make_config()
    return {**config, "compare": {**config["compare"], **settings}}


def test_a_run_that_was_repeated_is_not_told_to_repeat_it():
    for repeat, told in ((1, ["compare.repeat=3"]), (3, [])):
        (found,) = advise(run_with(timed(*TWO_STATES), config=config_with(repeat=repeat)))
        assert found.kind == "state_changed"
        assert remedies(sentence([found])) == told


@pytest.mark.parametrize(
    ("stopped", "told"),
    [
        ("rounds", "compare.rounds"),
        ("budget", "--budget 240s"),
    ],
)
def test_a_noisy_row_is_told_what_was_not_done_already(stopped, told):
    spread = [0.001 * s for s in (1, 1.12, 1.06, 1.04, 1.08, 1.02, 1.1, 1, 1.12, 1.06)]
    found = advise(run_with(timed(*spread, stopped=stopped)))
    (noisy,) = (advice for advice in found if advice.kind == "noisy")
    assert remedies(sentence([noisy])) == [told]


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        (10, ["--budget 300s"]),
        (6, ["compare.calls=10", "--budget 300s"]),
    ],
)
def test_too_few_calls_for_want_of_time_are_not_blamed_on_the_calls_alone(calls, told):
    run = run_with(timed(*[0.001] * 8, calls=calls, stopped="budget"), rounds=20)
    (found,) = (advice for advice in advise(run) if advice.kind == "few_calls")
    assert remedies(sentence([found])) == told
    assert str(8 * calls) in sentence([found])


def test_too_few_calls_for_shortened_blocks_want_more_time_and_not_more_calls():
    short = Shortage(rounds=8, needed_s=50, budget_s=60, calls=5, block_s=0.04)
    run = run_with(timed(*[0.001] * 10, calls=5, shortage=short), rounds=10)
    (found,) = (advice for advice in advise(run) if advice.kind == "few_calls")
    assert remedies(found.numbers["remedy"]) == ["compare.calls=20", "--budget 240s"]
    run = run_with(timed(*[0.001] * 20, calls=5, shortage=short), rounds=20)
    (found,) = (advice for advice in advise(run) if advice.kind == "few_calls")
    assert remedies(found.numbers["remedy"]) == ["--budget 240s"]


def test_a_spent_budget_is_no_warning_when_the_interval_is_narrow_enough():
    assert advise(run_with(timed(*MILLISECOND, stopped="budget"), rounds=20)) == ()


def test_a_tiny_call_is_sent_to_the_larger_batch_that_was_measured():
    row = B.make_row(
        "ort", "folded", timings=(B.make_timing(1, [3e-5] * 10), B.make_timing(64, [1e-3] * 10))
    )
    (found,) = advise(run_with(row))
    assert "batch 64" in sentence([found])


def test_the_reference_is_told_from_itself_by_its_fastest_calls_where_nothing_was_clean():
    again = B.make_self_check(
        "again", 1, 1, timings=(B.make_timing(1, [0.0025] * 10, dirty=range(10)),)
    )
    (found,) = advise(run_with(again))
    assert (found.kind, found.subject) == ("reference_differs", again.contender)


def test_self_checks_are_not_warned_about_as_if_they_were_contenders():
    again = B.make_self_check("again", 0.002, 0.064, precision="bfloat16")
    one = B.make_self_check("one_thread", 0.0034, 0.12)
    assert advise(run_with(B.make_row("ort", "folded"), again, one)) == ()


def test_an_unobservable_machine_with_self_checks_is_sent_to_them():
    blind = {"seen": {"run_delay_ratio": None}}
    again = B.make_self_check("again", 0.002, 0.064)
    (found,) = advise(B.make_run(measurements=(reference_timed(10, **blind), again)))
    alone = advise(B.make_run(measurements=(reference_timed(10, **blind),)))
    assert [advice.kind for advice in alone] == [found.kind]
    assert sentence([found]) != sentence(alone)
    assert "self-checks" in sentence([found])


def test_a_hot_cpu_is_told_to_cool_and_a_moving_one_to_hold_its_clock():
    hot = clocked(Clocks(cpu_throttled=2), Clocks(cpu_throttled=0), device="cpu")
    (found,) = advise(hot)
    assert found.kind == "throttled"
    assert "CPU" in sentence([found])
    assert "5 of 10 blocks" in sentence([found])
    moving = clocked(Clocks(cpu_mhz=(3700, 3700)), Clocks(cpu_mhz=(3500, 3500)), device="cpu")
    (found,) = advise(moving)
    assert "5.6 %" in sentence([found])
    assert "cpupower frequency-set -g performance" in sentence([found])


def test_clocks_that_hold_still_or_belong_to_the_other_chip_are_no_warning():
    still = Clocks(cpu_mhz=(3700, 3650), cpu_throttled=0, gpu_throttled=())
    assert advise(clocked(still, Clocks(cpu_mhz=(3600, 3650)), device="cpu")) == ()
    idle = clocked(Clocks(cpu_mhz=(3700, 3700)), Clocks(cpu_mhz=(1400, 1400)), device="cuda")
    assert advise(idle) == ()


def test_a_row_that_left_the_device_is_told_so_where_it_was_not_timed_there_alone():
    host = [B.make_timing(size, MILLISECOND) for size in (1, 64, 128)]
    device = [B.make_timing(size, MILLISECOND, boundary="device") for size in (1, 64, 128)]

    def found(timings):
        row = B.make_row("ort", "folded", not_resident="out of memory", timings=timings)
        return [a for a in advise(run_with(row)) if a.kind == "not_resident"]

    missing = found((*host, device[0]))
    assert [(a.batch_size, a.boundary) for a in missing] == [(64, "host"), (128, "host")]
    (nowhere,) = found(tuple(host))
    assert nowhere.batch_size is None
    (once,) = found((*host, *device))
    assert (once.batch_size, once.numbers["when"]) == (None, " in every repetition")


def test_without_the_second_boundary_there_is_no_note_about_it():
    row = B.make_row("ort", "folded", not_resident="its backend cannot")
    assert advise(run_with(row, config=config_with(boundaries="host"))) == ()


def test_a_test_with_too_few_queries_is_told_the_time_that_it_takes():
    reasons = ("The test exited early, before enough queries were issued.",)
    run = driven(
        "multistream", validity="INVALID", reasons=reasons, query_count=331, duration_s=60.0
    )
    (advice,) = advise(run)
    assert sentence([advice]).endswith("Give it more time: --duration 24s.")


def test_the_threads_of_server_may_wait_for_one_another():
    assert advise(driven("server", run_delay_ratio=0.4)) == ()
    assert [a.kind for a in advise(driven("offline", run_delay_ratio=0.4))] == ["scenario_loaded"]

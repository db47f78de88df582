"""The terminal's report: what stands where, and what never appears."""

import json
import re

import pytest

from foldbench.bench.errors import UnknownNameError
from foldbench.reports.render import render
from foldbench.reports.rows.homework import deviations

CASES = ["one_run", "three_models", "digits", "loaded"]


def section(text, title):
    """The lines of one section of a report, from its title to the next blank line."""
    return text[text.index(f"\n{title}\n") :].strip("\n").split("\n\n")[0].splitlines()


def row(text, title, contender):
    return next(line for line in section(text, title) if contender in line)


def two_epochs_on_a_copy(build):
    """A short training on the JPEG copy, scored on test images as they are."""
    checkpoint = build.checkpoint(
        data=build.data(title="CIFAR-10 (JPEG copy)", original=False),
        config=build.config(epochs=2),
        epochs=2,
    )
    return build.run(checkpoint=checkpoint, evaluation_protocol="clean")


def digits(build):
    data = build.data(
        name="digits",
        title="handwritten digits (scikit-learn)",
        classes=build.digits,
        train_count=1437,
        test_count=360,
    )
    measured = (
        build.row(
            "torch",
            "unfolded",
            accuracy=build.accuracy(351, 360),
            timings=(
                build.timing(
                    1, build.steady(0.002, rounds=4), calls=15, seen={"run_delay_ratio": None}
                ),
            ),
        ),
    )
    return build.run(
        "deep_mish",
        checkpoint=build.checkpoint("deep_mish", data=data),
        measurements=measured,
        rounds=4,
        environment={},
        artifacts=(),
    )


def loaded(build):
    """Busy neighbours come and go; the last contender has too few clean rounds. Made thrice."""
    thrice = {"repeats": 3, "stopped": "budget"}
    timings = {
        "torch/unfolded": build.timing(1, build.steady(0.002, 24), dirty=(3, 9, 17), **thrice),
        "ort/unfolded": build.timing(1, build.steady(0.001, 24, 3), dirty=(9,), **thrice),
        "ort/folded": build.timing(1, build.steady(0.0009, 24, 3), dirty=range(1, 20), **thrice),
    }
    rows = [build.row(*name.split("/"), timings=(t,)) for name, t in timings.items()]
    again = build.timing(1, build.steady(0.00199, 24, 3), dirty=(4,), **thrice)
    reason = "the worker ended without an answer (exit code 137: killed)"
    config = build.config()
    return build.run(
        config={**config, "compare": {**config["compare"], "repeat": 3}},
        rounds=20,
        foreign_load_cores=0.7,
        measurements=(
            *rows,
            build.self_check("again", 0.002, 0.064, timings=(again,)),
            build.self_check(
                "one_thread", 0.0034, 0.12, timings=(), status="failed", reason=reason
            ),
        ),
    )


def runs_of(build, case):
    return {
        "one_run": lambda: two_epochs_on_a_copy(build),
        "three_models": lambda: [build.run(m) for m in ("mish_cnn", "bn_cnn", "deep_mish")],
        "digits": lambda: digits(build),
        "loaded": lambda: loaded(build),
    }[case]()


@pytest.mark.parametrize("case", CASES)
def test_every_line_fits_100_columns(build, case):
    assert max(map(len, render(runs_of(build, case)).splitlines())) <= 100


def test_long_names_are_folded_to_fit_100_columns_and_lose_nothing(build):
    name = "an_extraordinarily_long_name_of_a_network_that_a_user_chose" * 2
    runs = [build.run(checkpoint=build.checkpoint(name)), build.run("deep_mish")]
    text = render(runs)
    assert max(map(len, text.splitlines())) <= 100
    first_column = [line[:60].split("  ")[0] for line in section(text, "Accuracy")[4:]]
    assert name in "".join(first_column)


def test_accuracy_stands_next_to_its_wilson_interval_and_the_homework(build):
    words = row(render(build.run()), "Accuracy", "torch/unfolded/cpu").split()
    assert words == ["torch/unfolded/cpu", "cpu", "76.01", "75.16–76.84", "76.27", "-0.26"]


def test_a_row_that_failed_is_there_with_its_reason_and_no_numbers(build):
    text = render(build.run())
    for table in ("Accuracy", "End-to-end latency (host to host)"):
        assert row(text, table, "ort/folded/cuda").split() == ["ort/folded/cuda", "failed"]
        assert row(text, table, "torch/unfolded/cuda").split() == ["torch/unfolded/cuda", "skipped"]
    reason = "asked for cuda; the session holds CPUExecutionProvider"
    assert reason in row(text, "Did not run", "ort/folded/cuda")


def test_a_row_that_failed_after_its_accuracy_was_taken_shows_no_numbers(build):
    failed = build.row("ort", "folded", status="failed", reason="its outputs changed")
    text = render(build.run(measurements=(build.row("torch", "unfolded"), failed)))
    for table in ("Accuracy", "End-to-end latency (host to host)"):
        words = row(text, table, "ort/folded/cpu").split()
        assert [word for word in words if word != "cpu"] == ["ort/folded/cpu", "failed"]


def test_what_is_missing_is_blank_and_not_zero_none_or_nan(build):
    unknown = float("nan")
    run = build.run(
        measurements=(
            build.row("torch", "unfolded", accuracy=None, timings=(), threads=None),
            build.row(
                "ort",
                "folded",
                accuracy=build.accuracy(max_abs_difference=unknown, max_rel_difference=unknown),
                timings=(build.timing(1, [0.001], calls=3),),
            ),
        )
    )
    for form in ("terminal", "md"):
        assert not re.search(r"\b(None|nan|NaN|inf)\b", render(run, form))
    text = render(run)
    assert row(text, "Accuracy", "torch/unfolded/cpu").split() == ["torch/unfolded/cpu", "cpu"]
    latency = row(text, "End-to-end latency (host to host)", "ort/folded/cpu").split()
    assert latency[:4] == ["ort/folded/cpu", "1", "1.00", "1,000"]  # no p95 and no speed-up


def test_the_reference_of_a_speed_up_shows_one_without_an_interval(build):
    text = render(build.run())
    latency = section(text, "End-to-end latency (host to host)")
    reference = next(line.split() for line in latency if line.startswith("torch/unfolded/cpu"))
    faster = next(line.split() for line in latency if line.startswith("ort/unfolded/cpu"))
    assert reference == ["torch/unfolded/cpu", "1", "2.00", "2.01", "500", "1"]
    numbers = ["1", "1.00", "1.01", "1,000", "2.00", "1.99–2.01"]
    assert faster == ["ort/unfolded/cpu", *numbers, "10", "in", "1", "faster"]


def test_no_speed_up_is_formed_across_devices(build):
    on_cuda = build.row("ort", "folded", requested_device="cuda")
    run = build.run(measurements=(build.row("torch", "unfolded"), on_cuda))
    latency = json.loads(render(run, "json"))["runs"][0]["latency"]
    found = [line["speedup_ratio"] for line in latency if line["contender"] == "ort/folded/cuda"]
    assert found == [None, None]


def test_every_deviation_is_a_note_that_the_homework_rows_refer_to(build):
    run = two_epochs_on_a_copy(build)
    text = render(run)
    notes = " ".join(" ".join(section(text, "Notes")).split())
    assert len(deviations(run)) == 3
    for number, deviation in enumerate(deviations(run), start=1):
        assert f"{number} {deviation}" in notes
    assert row(text, "Accuracy", "ort/folded/cpu").endswith("76.27       -0.25  1–3")


def test_of_another_data_set_the_homework_is_not_spoken_of(build):
    text = render(digits(build))
    assert "homework" not in " ".join(section(text, "Accuracy")[4:-2])
    assert row(text, "Accuracy", "torch/unfolded/cpu").split()[2:] == ["97.50", "95.32–98.68"]
    assert "\nNotes\n" not in text or "omework" not in " ".join(section(text, "Notes"))


def test_nothing_from_outside_steers_the_terminal(build):
    reason = "\x1b[31mred\x1b[0m\rgone\nnext \u202eback \x07\x01"
    run = build.run(
        measurements=(build.lost_row("ort", "folded", "cpu", "failed", reason),),
        checkpoint=build.checkpoint(data=build.data(title="a\x1b]0;owned\x07b")),
        environment={"cpu": "x\x9b31m"},
        command=("bench", "\x1b[2J"),
    )
    text = render(run)
    assert not re.search(r"[^\n\x20-\x7e\u00a0-\u2027\u2030-\uffff]", text)
    assert r"\x1b[31mred" in text


def test_two_runs_of_one_model_are_told_apart_by_their_run(build):
    runs = [build.run(), build.run(name="bn_cnn-2")]
    heading, _, first = section(render(runs), "Accuracy")[2:5]
    assert heading.split()[0] == "run"
    assert first.split()[0] == "bn_cnn-1"


def test_json_holds_unrounded_numbers_and_every_row(build):
    (found,) = json.loads(render(build.run(), "json"))["runs"]
    assert found["accuracy"][0]["accuracy"] == 0.7601
    assert found["accuracy"][0]["homework_difference"] == 0.7601 - 0.7627
    assert [line["status"] for line in found["accuracy"]] == ["ok"] * 4 + ["failed", "skipped"]
    assert found["warnings"][0]["kind"] == "disagreement"


def test_json_is_strict_even_where_a_record_holds_infinity(build):
    row = build.row("ort", "folded", accuracy=build.accuracy(max_abs_difference=float("inf")))
    (found,) = json.loads(
        render(build.run(measurements=(row,)), "json"), parse_constant=pytest.fail
    )["runs"]
    assert found["accuracy"][0]["max_abs_difference"] is None


def test_an_unknown_format_is_named_with_the_known_ones(build):
    with pytest.raises(UnknownNameError, match=r"'mdd'; did you mean 'md'"):
        render(build.run(), "mdd")


def test_no_run_is_no_report():
    with pytest.raises(ValueError, match="at least one run"):
        render([])

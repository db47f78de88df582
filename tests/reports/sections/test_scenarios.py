"""The section on MLPerf scenarios: figures, blanks, reasons and what it says of itself."""

import json

import pytest

from foldbench.reports.render import render

LATENCY = "End-to-end latency (host to host)"
TITLE = "MLPerf Inference scenarios (LoadGen)"
NAMES = ("singlestream", "multistream", "offline", "server")


@pytest.fixture
def driven(build):
    """Make a run that LoadGen drove, from the tests of ort/folded/cpu and other rows."""

    def make(*results, rows=()):
        config = build.config()
        config["compare"]["loadgen"]["scenarios"] = sorted({r.scenario for r in results})
        row = build.row("ort", "folded", timings=(), scenarios=results)
        return build.run(config=config, measurements=(row, *rows))

    return make


def section(text, title=TITLE):
    return text[text.index(f"{title}\n") :].split("\n\n")[0]


def words_of(text, scenario):
    lines = section(text).splitlines()
    return next(line for line in lines if line.startswith(f"ort/folded/cpu  {scenario}")).split()[
        1:
    ]


def test_each_scenario_has_the_figure_that_mlperf_reports(build, driven):
    text = render(driven(*map(build.scenario, NAMES)))
    assert words_of(text, "singlestream") == [
        *("singlestream", "VALID", "1.30", "ms", "1.00", "1.10", "1.40", "2,000")
    ]
    assert words_of(text, "multistream")[2:4] == ["1.30", "ms"]
    assert words_of(text, "offline") == ["offline", "VALID", "1,000", "samples/s", "1"]
    assert words_of(text, "server")[2:] == ["198", "queries/s", "1.00", "1.10", "1.40", "2,000"]


def test_it_says_what_it_is_not_and_by_which_settings_it_was_taken(build, driven):
    text = " ".join(render(driven(*map(build.scenario, NAMES))).split())
    for fact in (
        *("Not an official MLPerf result", "200 images a second", "within 10.0 ms"),
        *("662 queries or more", "10,000 test images", "LoadGen 6.0.17 @ d6147c7eb7"),
    ):
        assert fact in text


def test_in_place_of_the_rounds_nothing_is_said_of_rounds(build, driven):
    text = render(driven(build.scenario()), "md")
    assert "End-to-end latency" not in text
    assert "clean rounds wanted" not in text
    assert "budget" not in text


def test_an_invalid_test_has_reasons_and_no_result(build, driven):
    reasons = ("Reduce target QPS to improve latency.", "Early stopping: Run unsuccessful.")
    run = driven(build.scenario("server", validity="INVALID", reasons=reasons))
    text = render(run)
    assert words_of(text, "server")[:3] == ["server", "INVALID", "1.00"]
    shown = " ".join(section(text, "INVALID tests").split())
    assert all(reason.rstrip(".") in shown for reason in reasons)
    assert "INVALID tests" not in render(driven(build.scenario("server")))


def test_figures_that_do_not_exist_are_blank(build, driven):
    lost = build.scenario(
        "server",
        validity="INVALID",
        reasons=("given up",),
        latencies=None,
        completed_qps=None,
        scheduled_qps=None,
        over_latency_count=None,
    )
    text = render(driven(lost))
    assert words_of(text, "server") == ["server", "INVALID", "2,000", "1"]
    assert "None" not in render(driven(lost), "md")


def test_a_contender_that_failed_keeps_its_row(build, driven):
    failed = build.row("torch", "folded", status="failed", reason="out of memory", timings=())
    text = render(driven(build.scenario(), rows=(failed,)))
    assert "torch/folded/cpu                failed" in section(text)
    assert "out of memory" in section(text, "Did not run")


def test_programs_get_every_figure_unrounded(build, driven):
    (run,) = json.loads(render(driven(build.scenario("server", repeat=2)), "json"))["runs"]
    (row,) = run["scenarios"]
    assert (row["contender"], row["scenario"], row["repeat"]) == ("ort/folded/cpu", "server", 2)
    assert row["latencies"]["p99_9_s"] == pytest.approx(0.0015)
    assert row["log_sha256"] == build.sha("9")


def test_beside_a_run_with_rounds_each_is_in_its_own_table(build, driven):
    rounds, scenarios = build.run("mish_cnn"), driven(build.scenario())
    text = render([rounds, scenarios])
    assert "mish_cnn" in section(text, LATENCY)
    assert "bn_cnn" not in section(text, LATENCY)
    assert "bn_cnn  ort/folded/cpu  singlestream" in section(text)
    assert TITLE not in render(rounds)

"""Runs over time: the trend of each contender, machine by machine."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.reports.commands.history import render_history, sparkline
from foldbench.reports.rows.history import group_runs


@pytest.fixture
def series(build):
    """Four runs on a machine in which ort gets faster, and one on another machine."""

    def make(number, seconds, cpu="AMD EPYC 7R13", **changes):
        rows = (
            build.row("torch", "unfolded", timings=(build.timing(1, build.steady(0.002)),)),
            build.row(
                "ort",
                "folded",
                timings=(build.timing(1, build.steady(seconds, period=3)),),
                accuracy=build.accuracy(7500 + 100 * number),
            ),
        )
        environment = {"cpu": cpu, "cores_usable": 2, "torch": f"2.{number}", "machine": "x86_64"}
        return build.run(
            name=f"bn_cnn-{number:03}",
            created=f"2025-03-{number:02}T12:00:00+00:00",
            environment=environment,
            measurements=rows,
            **changes,
        )

    times = (0.0016, 0.00125, 0.001, 0.0008)
    runs = [make(n, seconds) for n, seconds in enumerate(times, start=1)]
    return [*runs, make(5, 0.0004, cpu="Apple M9")]


def test_machines_stand_apart_and_runs_are_in_order_of_time(series):
    groups = group_runs(series[::-1])
    assert [group.machine.split(",")[0] for group in groups] == ["AMD EPYC 7R13", "Apple M9"]
    assert [run.name for run in groups[0].runs] == [f"bn_cnn-00{n}" for n in (1, 2, 3, 4)]


def test_the_terminal_shows_first_last_range_and_trend(series):
    text = render_history(series[:4])
    assert "4 comparisons on AMD EPYC 7R13" in text.splitlines()[0]
    (row,) = (line for line in text.splitlines() if line.startswith("ONNX Runtime, folded      1"))
    assert row.split() == [
        *(
            "ONNX",
            "Runtime,",
            "folded",
            "1",
            "4",
            "1.25",
            "2.50",
            "2.49–2.51",
            "faster",
            "1.25–2.50",
        ),
        "▁▃▆█",
    ]
    assert max(map(len, text.splitlines())) <= 100


def test_the_reference_has_no_trend_of_its_own(series):
    text = render_history(series[:4])
    speedups = text[text.index("\nSpeed-up\n") : text.index("\nAccuracy\n")]
    assert not any(line.startswith("PyTorch eager ") for line in speedups.splitlines())


def test_what_changed_between_runs_is_said(series):
    text = render_history(series[:2])
    assert "torch: 2.1 → 2.2" in text


def test_no_ratio_of_another_machine_is_in_a_machines_rows(series):
    text = render_history(series, "md")
    first, second = text.split("## Speed-up of bn_cnn on Apple M9")
    assert "5.0" not in first.split("## Accuracy")[0]
    assert "2.50" not in second.split("## Accuracy")[0]


def test_a_run_without_enough_clean_rounds_leaves_a_gap(series, build):
    busy = build.timing(1, build.steady(0.001), dirty=range(1, 10))
    rows = (series[1].measurements[0], build.row("ort", "folded", timings=(busy,)))
    runs = [series[0], series[1].model_copy(update={"measurements": rows}), series[3]]
    (row,) = (
        line
        for line in render_history(runs).splitlines()
        if line.startswith("ONNX Runtime, folded  ")
        if "faster" in line
    )
    assert row.endswith("▁ █")


@pytest.mark.parametrize("form", ["md", "html", "csv"])
def test_every_form_holds_every_run(series, form):
    text = render_history(series, form)
    assert all(run.name in text for run in series)
    assert text.endswith("\n")


def test_json_holds_every_point_unrounded(series):
    points = json.loads(render_history(series, "json"))["points"]
    assert len(points) == 10
    assert {point["machine"].split(",")[0] for point in points} == {"AMD EPYC 7R13", "Apple M9"}


def test_the_page_has_a_picture_for_each_machine(series):
    page = render_history(series, "html")
    assert "bn_cnn on AMD EPYC 7R13" in page
    assert page.count("<figure") == 2
    assert "Speed-up at batch 1" in page


def test_of_hundreds_the_newest_are_listed_and_every_point_is_in_json(series):
    many = [
        series[n % 4].model_copy(
            update={"name": f"bn_cnn-001@{n}", "created": f"2025-03-01T12:{n // 60:02}:{n % 60:02}"}
        )
        for n in range(1, 301)
    ]
    text = render_history(many)
    assert len(text.splitlines()) < 80
    assert max(map(len, text.splitlines())) <= 100
    assert "bn_cnn-001@300" in text
    assert "bn_cnn-001@280 " not in text
    assert "280 earlier" in text
    points = json.loads(render_history(many, "json"))["points"]
    assert len({point["run"] for point in points}) == 300


def test_no_run_has_no_history():
    with pytest.raises(ValueError, match="at least one run"):
        render_history([])


@given(st.lists(st.one_of(st.none(), st.floats(1e-6, 1e6)), min_size=1, max_size=30))
def test_a_sparkline_has_a_bar_a_value_and_keeps_their_order(values):
    bars = sparkline(values)
    known = [v for v in values if v is not None]
    assert len(bars) == (len(values) if known else 0)
    drawn = [(v, bar) for v, bar in zip(values, bars, strict=False) if v is not None]
    for (a, bar_a), (b, bar_b) in pairwise(drawn):
        assert bar_a <= bar_b or a > b


def test_values_that_hardly_differ_are_level():
    assert sparkline([1.0, 1.004, 1.009]) == "▄▄▄"
    assert sparkline([None, 2.0]) == " ▄"

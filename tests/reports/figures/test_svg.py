"""The pieces that pictures are made of: scales, ticks, dots, and text that stays text."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.records import AblationStep
from foldbench.reports.figures.ablation import ablation_figure
from foldbench.reports.figures.axes import Scale, padded, padded_ratio
from foldbench.reports.figures.elements import drawing, element, short, text
from foldbench.reports.figures.latency import latency_figure
from foldbench.reports.figures.marks import assign
from foldbench.reports.figures.tradeoff import TradeoffPoint, pareto_front

POSITIVE = st.floats(1e-6, 1e6)


@given(POSITIVE, POSITIVE, st.booleans())
def test_a_scale_puts_its_ends_at_its_ends_and_keeps_order(a, b, logarithmic):
    low, high = sorted((a, b))
    scale = Scale(low, high, 10, 400, logarithmic)
    middle = (low + high) / 2
    if high > low * 1.0001:
        assert scale(low) == pytest.approx(10)
        assert scale(high) == pytest.approx(400)
    assert scale(low) <= scale(middle) <= scale(high)
    assert scale(high * 10) == scale(high)


@given(POSITIVE, st.floats(1.05, 1e5), st.booleans())
def test_ticks_are_within_the_scale_in_order_and_not_too_many(low, factor, logarithmic):
    high = low * factor
    ticks = Scale(low, high, 0, 100, logarithmic).ticks()
    assert 1 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))
    room = 1e-6 * (high - low) + 1e-12
    assert all(low - room <= tick <= high + room for tick in ticks)


@given(st.lists(POSITIVE, min_size=1, max_size=5))
def test_a_padded_range_holds_its_values(values):
    for low, high in (padded(values), padded_ratio(values)):
        assert low < min(values)
        assert max(values) < high


@given(st.text())
def test_any_text_in_a_drawing_is_well_formed_and_stays_text(foreign):
    made = drawing(
        "x", 10, 10, foreign, foreign, text(foreign, 1, 2), element("g", data_of=foreign)
    )
    root = ElementTree.fromstring(str(made))
    assert {child.tag for child in root} == {"title", "desc", "text", "g"}


@pytest.mark.parametrize(
    ("name", "longest", "shown"),
    [("abc", 3, "abc"), ("abcdefgh", 5, "ab…gh"), ("猫" * 9, 3, "猫…猫")],
)
def test_long_names_lose_their_middle(name, longest, shown):
    assert short(name, longest) == shown


def point(seconds, accuracy):
    return TradeoffPoint("m", "c", 1, "here", seconds, accuracy, accuracy - 0.1, accuracy + 0.1)


def test_the_front_holds_what_nothing_beats():
    best, fast, slow = point(2, 0.9), point(1, 0.8), point(3, 0.9)
    assert pareto_front([slow, best, point(2.5, 0.7), fast]) == [fast, best]


@given(st.lists(st.tuples(POSITIVE, st.floats(0, 1)), min_size=1, max_size=12))
def test_every_point_is_on_the_front_or_beaten_by_one_that_is(pairs):
    points = [point(seconds, accuracy) for seconds, accuracy in pairs]
    front = pareto_front(points)
    for p in points:
        assert any(f.median_s <= p.median_s and f.accuracy >= p.accuracy for f in front)
    assert all(a.accuracy <= b.accuracy for a, b in pairwise(front))


def dots(panel, style):
    """The places of the dots of the first strip in a panel."""
    (path, *_) = re.findall(rf'<path d="([^"]+)" class="{style}"', panel)
    x = y = 0.0
    places = []
    for dx, dy in re.findall(r"m(-?[\d.]+) (-?[\d.]+)h0", path):
        x, y = x + float(dx), y + float(dy)
        places.append((x, y))
    return places


def drawn(build, timing):
    rows = (build.row("torch", "unfolded", timings=(timing,)),)
    run = build.run(measurements=rows)
    figure = latency_figure((("mine", run),), assign(["torch/unfolded/cpu"]), ())
    (panel,) = figure.panels
    return str(panel), figure


def test_every_call_is_a_dot_and_time_goes_down(build):
    timing = build.timing(1, [0.001, 0.002, 0.003, 0.004], calls=3, wobble=0.5)
    panel, figure = drawn(build, timing)
    places = dots(panel, "dots few")
    assert len(places) == 12
    by_time = [x for x, _ in sorted(places, key=lambda place: place[1])]
    assert by_time[0] < by_time[4] < by_time[8]
    assert figure.table.rows[0][-1] == "4.67"


def test_calls_of_disturbed_rounds_are_drawn_apart(build):
    timing = build.timing(1, build.steady(0.002, 4), calls=5, wobble=0.2, dirty=(1,))
    panel, _ = drawn(build, timing)
    assert len(dots(panel, "dots few")) == 15
    assert len(dots(panel, "dots few dirty")) >= 1  # three times as slow, at the end of the axis
    assert "5 beyond, to " in panel


def test_a_disturbed_attempt_is_drawn_apart_from_the_clean_one_of_its_round(build):
    clean, disturbed = build.timing(1, [0.010, 0.050], calls=3, dirty=(1,)).blocks
    again = replace(clean, round=2)
    blocks = (replace(disturbed, round=0), clean, again)
    panel, _ = drawn(build, build.timing(1, [0.01], blocks=blocks))
    assert len(dots(panel, "dots few")) == 6
    assert "3 beyond, to 150 ms" in panel


def test_the_ablation_is_drawn_step_by_step(build):
    steps = {"torch/unfolded/cpu": 0.004, "ort/plain/cpu": 0.002, "ort/folded/cpu": 0.001}
    rows = [
        build.row(*name.split("/")[:2], timings=(build.timing(1, build.steady(s, period=2 + i)),))
        for i, (name, s) in enumerate(steps.items())
    ]
    ladder = tuple(AblationStep(contender=name, what=f"step <{name}>") for name in steps)
    run = build.run(measurements=tuple(rows), ladder=ladder)
    figure = ablation_figure((("mine", run),), assign(list(steps)), ())
    (panel,) = map(str, figure.panels)
    widths = [float(w) for w in re.findall(r'width="([\d.]+)"', panel)]
    assert widths == pytest.approx([436, 218, 109], abs=1)
    assert "step &lt;ort/plain/cpu&gt;" in panel
    assert re.search(r">×(2\.0\d|1\.99) \(1\.99–2\.0\d\), (1\.00|0\.99\d) ms<", panel)
    assert ablation_figure((("mine", build.run()),), assign(list(steps)), ()) is None


def test_a_run_without_times_has_no_picture_of_them(build):
    lost = build.lost_row("ort", "folded", "cpu", "failed", "no file")
    run = build.run(measurements=(lost,))
    assert latency_figure((("mine", run),), assign(["ort/folded/cpu"]), ()) is None

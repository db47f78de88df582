"""The ladder: what each step gave over the one before."""

import pytest

from bench.records import LadderStep
from reports.ladder import ladder_rows
from reports.render import render

STEPS = {"unfolded": 0.004, "plain": 0.002, "bare+mish": 0.001}


def climb(build, rows):
    steps = tuple(LadderStep(contender=r.contender, what=f"step {r.variant}") for r in rows)
    return build.run(measurements=tuple(rows), ladder=steps)


@pytest.fixture
def ladder(build):
    """A run of three steps, 4, 2 and 1 ms at batch 1."""
    rows = [
        build.row(
            "torch" if variant == "unfolded" else "ort",
            variant,
            timings=(build.timing(1, build.steady(seconds, period=2 + i)),),
        )
        for i, (variant, seconds) in enumerate(STEPS.items())
    ]
    return climb(build, rows)


def test_each_step_has_its_own_gain_and_an_interval(ladder):
    first, second, third = ladder_rows(ladder)
    assert (first.before, first.start) == (None, None)
    for step in (second, third):
        assert step.before.point == pytest.approx(2, rel=0.01)
        assert step.before.low <= step.before.point <= step.before.high
    assert third.start.point == pytest.approx(4, rel=0.01)


def test_every_form_shows_it(ladder):
    for form in ("terminal", "md", "html"):
        assert "Ladder: what each step gave" in render(ladder, form)
    page = render(ladder, "html")
    assert 'id="figure-ladder"' in page
    assert "step bare+mish (ort/bare+mish/cpu): ×2.00" in page


def test_a_comparison_that_is_no_ladder_has_none(build):
    assert not ladder_rows(build.run())
    assert "ladder" not in render(build.run(), "md").lower()


def test_too_few_clean_rounds_give_no_gain(build):
    busy = build.timing(1, build.steady(0.001), dirty=range(1, 10))
    rows = build.row("torch", "unfolded"), build.row("ort", "plain", timings=(busy,))
    _, step, *_ = ladder_rows(climb(build, rows))
    assert step.before is None
    assert step.latency.median_s is not None


def test_a_step_that_failed_is_passed_over(build):
    gone = build.row("ort", "plain", status="failed", reason="no memory", timings=())
    last = build.row("ort", "folded", timings=(build.timing(1, build.steady(0.001)),))
    first = build.row("torch", "unfolded", timings=(build.timing(1, build.steady(0.004)),))
    rows = ladder_rows(climb(build, [first, gone, last]))
    assert rows[1].before is None
    assert rows[1].latency.status == "failed"
    assert rows[2].before.point == pytest.approx(4, rel=0.01)
